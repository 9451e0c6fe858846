"""The singular value decomposition in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian, well_conditioned


def _adjoint(x):
    return x.conj().swapaxes(-1, -2)


def _projector(x):
    return x @ _adjoint(x)


def _values(out):
    return out[1]


def _factors(out):
    """All that S, U and Vh determine and the phases of the singular vectors do not touch, for separated S."""
    U, S, Vh = out
    k = S.shape[-1]
    left, right = U[..., :k], Vh[..., :k, :]
    mapped = (left * (S + S**3)[..., None, :].astype(U.dtype)) @ right
    return S, mapped, left @ right, _projector(U[..., :1]), _projector(_adjoint(Vh[..., :1, :]))


def _complements(out):
    """The projectors on the columns of U and the rows of Vh beyond the first, weighted unlike the others."""
    U, S, Vh = out
    k = S.shape[-1]
    return (*_factors(out), _projector(U[..., k:]), _projector(_adjoint(Vh[..., k:, :])), _projector(U[..., 1:]))


def _thin(a):
    return np.linalg.svd(a, full_matrices=False)


def _matrix(m, n):
    return lambda rng, d: (well_conditioned(rng, d, m, n),)


THIN = {"full_matrices": False}

CASES = [
    Case("svd", "square", _matrix(4, 4), np.linalg.svd, view=_factors),
    Case("svd", "tall", _matrix(5, 3), _thin, THIN, view=_factors),
    Case("svd", "wide", _matrix(3, 5), _thin, THIN, view=_factors),
    Case("svd", "full tall", _matrix(5, 3), np.linalg.svd, view=_complements),
    Case("svd", "full wide", _matrix(2, 4), np.linalg.svd, view=_complements),
    Case("svd", "values", _matrix(4, 3), lambda a: np.linalg.svd(a, compute_uv=False), {"compute_uv": False}),
    Case(
        "svd",
        "Hermitian",
        lambda rng, d: (hermitian(rng, d, 4) + 0.1 * general(rng, d, 4, 4),),
        lambda a: np.linalg.svd((a + _adjoint(a)) / 2),
        {"hermitian": True},
        view=_factors,
    ),
    Case(
        "svd",
        "Hermitian values",
        lambda rng, d: (hermitian(rng, d, 4),),
        lambda a: np.linalg.svd(a, compute_uv=False),
        {"hermitian": True, "compute_uv": False},
    ),
    Case("svd", "column", lambda rng, d: (general(rng, d, 3, 1),), _thin, THIN, view=_factors),
    Case("svd", "1 x 1", lambda rng, d: (general(rng, d, 1, 1),), np.linalg.svd, view=_factors),
    Case("svd", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.svd),
    Case("svd", "3 x 0", lambda rng, d: (np.zeros((3, 0), d),), np.linalg.svd, view=_values),
    Case("svdvals", "tall", _matrix(5, 3), np.linalg.svdvals),
    Case("svdvals", "wide", _matrix(3, 5), np.linalg.svdvals),
    Case("svdvals", "0 x 3", lambda rng, d: (np.zeros((0, 3), d),), np.linalg.svdvals),
]

# (function, arguments, options, type of the error, a regular expression that its message matches)
ERRORS = [
    ("svd", (np.ones(3),), {}, ValueError, r"linalgx\.svd: a must have at least two axes, but its shape is \(3,\)"),
    ("svd", (np.ones((2, 3)),), {"hermitian": True}, ValueError, r"linalgx\.svd: a must be square"),
    ("svdvals", (np.ones(3),), {}, ValueError, r"linalgx\.svdvals: x must have at least two axes"),
    ("svdvals", ([[1.0]],), {}, TypeError, r"linalgx\.svdvals: x must be an array.* jnp\.asarray"),
]

# the operations of RULES: arguments (from a generator and a dtype name) and static parameters, as their rules take them
RULE_INPUTS = {
    "svd": [(_matrix(m, n), {"full_matrices": full}) for m, n in ((4, 4), (5, 3), (2, 4)) for full in (True, False)],
    "svdvals": [(_matrix(m, n), {}) for m, n in ((4, 4), (5, 3), (2, 4))],
}
