"""The Hermitian eigendecomposition in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian, with_eigenvalues


def _adjoint(X):
    return X.conj().swapaxes(-1, -2)


def gauge_free(out):
    """The eigenvalues, the projector v v^H onto each eigenvector, and the functions V |l| V^H, V l^3 V^H."""
    l, V = out
    projectors = V[..., :, None, :] * V[..., None, :, :].conj()
    row = l[..., None, :].astype(V.dtype)
    return l, projectors, (V * abs(row).astype(V.dtype)) @ _adjoint(V), (V * row**3) @ _adjoint(V)


def _of_hermitian_part(function):
    return lambda a: function((a + _adjoint(a)) / 2)


def _one_triangle(rng, dtype, n, other):
    return (hermitian(rng, dtype, n) + other(general(rng, dtype, n, n)),)


CASES = [
    Case("eigh", "4 x 4", lambda rng, d: (hermitian(rng, d, 4),), np.linalg.eigh, view=gauge_free),
    Case(
        "eigh",
        "not Hermitian",
        lambda rng, d: (hermitian(rng, d, 3) + 0.1 * general(rng, d, 3, 3),),
        _of_hermitian_part(np.linalg.eigh),
        view=gauge_free,
    ),
    Case(
        "eigh",
        "lower triangle",
        lambda rng, d: _one_triangle(rng, d, 3, lambda x: np.triu(x, 1)),
        np.linalg.eigh,
        {"UPLO": "L"},
        view=gauge_free,
    ),
    Case(
        "eigh",
        "upper triangle",
        lambda rng, d: _one_triangle(rng, d, 3, lambda x: np.tril(x, -1)),
        lambda a: np.linalg.eigh(a, UPLO="U"),
        {"UPLO": "u"},
        view=gauge_free,
    ),
    Case(
        "eigh",
        "not symmetrised",
        lambda rng, d: _one_triangle(rng, d, 3, lambda x: np.triu(x, 1)),
        np.linalg.eigh,
        {"symmetrize_input": False},
        view=gauge_free,
    ),
    Case("eigh", "1 x 1", lambda rng, d: (hermitian(rng, d, 1),), np.linalg.eigh, view=gauge_free),
    Case("eigh", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.eigh, view=gauge_free),
    Case("eigvalsh", "4 x 4", lambda rng, d: (hermitian(rng, d, 4),), np.linalg.eigvalsh),
    Case(
        "eigvalsh",
        "not Hermitian",
        lambda rng, d: (hermitian(rng, d, 3) + 0.1 * general(rng, d, 3, 3),),
        _of_hermitian_part(np.linalg.eigvalsh),
    ),
    Case(
        "eigvalsh",
        "lower triangle",
        lambda rng, d: _one_triangle(rng, d, 3, lambda x: np.triu(x, 1)),
        np.linalg.eigvalsh,
        {"symmetrize_input": False},
    ),
    Case(
        "eigvalsh",
        "upper triangle",
        lambda rng, d: _one_triangle(rng, d, 3, lambda x: np.tril(x, -1)),
        lambda a: np.linalg.eigvalsh(a, UPLO="U"),
        {"UPLO": "U"},
    ),
    Case("eigvalsh", "1 x 1", lambda rng, d: (hermitian(rng, d, 1),), np.linalg.eigvalsh),
    Case("eigvalsh", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.eigvalsh),
]

# (function, arguments, options, type of the error, a regular expression that its message matches)
ERRORS = [
    ("eigh", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.eigh: a must be square .* \(2, 3\)"),
    ("eigh", (np.eye(2),), {"UPLO": "X"}, ValueError, r"linalgx\.eigh: UPLO must be one of .*'X'"),
    ("eigh", ([[1.0]],), {}, TypeError, r"linalgx\.eigh: a must be an array.* jnp\.asarray"),
    ("eigvalsh", (np.ones(3),), {}, ValueError, r"linalgx\.eigvalsh: a must have at least two axes"),
    ("eigvalsh", (np.eye(2),), {"UPLO": 0}, ValueError, r"linalgx\.eigvalsh: UPLO must be one of"),
]

# the operations of RULES: arguments (from a generator and a dtype name) and static parameters, as their rules take them
RULE_INPUTS = {
    name: [(lambda rng, d: (hermitian(rng, d, 4),), {}), (lambda rng, d: (with_eigenvalues(rng, d, [1, 1, 2, 2]),), {})]
    for name in ("eigh", "eigvalsh")
}
