"""Pseudoinverses and least squares in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian, well_conditioned, with_eigenvalues, with_singular_values


def _matrix(m, n):
    return lambda rng, d: (well_conditioned(rng, d, m, n),)


def _truncating(m, n):
    """Singular values 3, 2 and 0.5."""
    return lambda rng, d: (with_singular_values(rng, d, m, n, (3, 2, 0.5)),)


def _system(m, n, k, make=well_conditioned):
    return lambda rng, d: (make(rng, d, m, n), general(rng, d, m, k))


def _truncating_matrix(rng, d, m, n):
    return with_singular_values(rng, d, m, n, (3, 2, 0.5))


def _truncated_pinv(rcond):
    return lambda a: np.linalg.pinv(a, rcond=rcond)


def _lstsq(rcond=None):
    def solve(a, b):
        x, _, rank, s = np.linalg.lstsq(a, b, rcond=rcond)
        r = b - a @ x
        return x, np.atleast_1d(np.sum(np.abs(r) ** 2, axis=0)), np.asarray(rank), s

    return solve


def _parts(out):
    """All of the result, with residuals that may be zero compared to 1."""
    x, residuals, rank, s = out
    return x, 1 + residuals, rank, s


def _hermitian_part(a):
    return (a + a.conj().T) / 2


CASES = [
    Case("pinv", "square", _matrix(4, 4), np.linalg.inv),
    Case("pinv", "tall", _matrix(5, 3), np.linalg.pinv),
    Case("pinv", "wide", _matrix(3, 5), np.linalg.pinv),
    Case("pinv", "rtol", _truncating(5, 3), _truncated_pinv(0.3), {"rtol": 0.3}),
    Case("pinv", "rcond, wide", _truncating(3, 4), _truncated_pinv(0.3), {"rcond": 0.3}),
    Case("pinv", "atol", _truncating(3, 3), _truncated_pinv(0.3), {"atol": 1.0}),
    Case(
        "pinv",
        "Hermitian",
        lambda rng, d: (hermitian(rng, d, 4) + 0.1 * general(rng, d, 4, 4),),
        lambda a: np.linalg.inv(_hermitian_part(a)),
        {"hermitian": True},
    ),
    Case(
        "pinv",
        "Hermitian rtol",
        lambda rng, d: (with_eigenvalues(rng, d, (-3, 0.5, 1.5, 2)),),
        _truncated_pinv(0.3),
        {"hermitian": True, "rtol": 0.3},
    ),
    Case("pinv", "column", lambda rng, d: (general(rng, d, 3, 1),), np.linalg.pinv),
    Case("pinv", "0 x 3", lambda rng, d: (np.zeros((0, 3), d),), np.linalg.pinv),
    Case("pinv", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.pinv),
    Case("lstsq", "tall", _system(5, 3, 2), _lstsq(), view=_parts, differentiate=(0, 1)),
    Case("lstsq", "wide", _system(3, 5, 2), _lstsq(), view=_parts, differentiate=(0, 1)),
    Case("lstsq", "square", _system(3, 3, 1), _lstsq(), view=_parts, differentiate=(0, 1)),
    Case(
        "lstsq",
        "rcond",
        _system(5, 3, 2, _truncating_matrix),
        _lstsq(0.3),
        {"rcond": 0.3},
        view=_parts,
        differentiate=(0, 1),
    ),
    Case("lstsq", "rcond < 0", _system(4, 2, 2), _lstsq(), {"rcond": -1}, view=_parts, differentiate=(0, 1)),
    Case(
        "lstsq",
        "vector",
        lambda rng, d: (well_conditioned(rng, d, 4, 2), general(rng, d, 4)),
        _lstsq(),
        view=_parts,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case("lstsq", "0 unknowns", _system(3, 0, 2), _lstsq(), view=_parts, differentiate=(0, 1)),
    Case("lstsq", "0 rows", _system(0, 3, 2), _lstsq(), view=_parts, differentiate=(0, 1)),
]

# (function, arguments, options, type of the error, a regular expression that its message matches)
_PAIR = (np.ones((4, 2)), np.ones((3, 1)))
ERRORS = [
    ("pinv", (np.ones(3),), {}, ValueError, r"linalgx\.pinv: a must have at least two axes"),
    ("pinv", (np.ones((2, 3)),), {"hermitian": True}, ValueError, r"linalgx\.pinv: a must be square"),
    ("pinv", (np.ones((2, 3)),), {"rtol": 0.1, "rcond": 0.1}, ValueError, r"linalgx\.pinv: rtol and rcond"),
    ("pinv", (np.ones((2, 3)),), {"rtol": 0.1j}, TypeError, r"linalgx\.pinv: rtol must be real.* complex"),
    ("pinv", (np.ones((2, 3, 3)),), {"atol": np.ones(3)}, ValueError, r"linalgx\.pinv: atol must broadcast .*\(3,\)"),
    ("lstsq", _PAIR, {}, ValueError, r"linalgx\.lstsq: a and b must have as many rows, but a has 4 and b has 3"),
    ("lstsq", (np.ones(4), np.ones(4)), {}, ValueError, r"linalgx\.lstsq: a must have at least two axes"),
    ("lstsq", (np.ones((2, 4, 3)), np.ones((3, 4, 1))), {}, ValueError, r"linalgx\.lstsq: .* do not broadcast"),
    ("lstsq", (np.ones((4, 3)), np.ones(4)), {"rcond": 1j}, TypeError, r"linalgx\.lstsq: rcond must be real"),
]

# the operations of RULES: arguments (from a generator and a dtype name) and static parameters, as their rules take them


def _factored(m, n, rank):
    """A matrix of the given rank with the factors of its pseudoinverse from the SVD of its tall one: U, f and Vh."""

    def inputs(rng, d):
        a = with_singular_values(rng, d, m, n, np.linspace(3, 1, rank))
        U, S, Vh = np.linalg.svd(a if m >= n else a.conj().T, full_matrices=False)
        f = np.where(np.arange(len(S)) < rank, 1 / S, 0)
        return a, U, f, Vh

    return inputs


def _factored_by_equations(m, n):
    """A matrix of full rank with the factors of its normal equations: itself, tall, over 2; -1/2; and R^-H."""

    def inputs(rng, d):
        a = well_conditioned(rng, d, m, n)
        U = (a if m >= n else a.conj().T) / 2
        L = np.linalg.cholesky(U.conj().T @ U)
        return a, U, np.full(len(L), -0.5), np.linalg.inv(L)

    return inputs


def _applied(factored, m, n, adjoint, for_few):
    inputs = lambda rng, d: (*factored(rng, d), general(rng, d, n if adjoint else m, 2))
    return inputs, {"adjoint": adjoint, "for_few": for_few}


def _with_tolerances(m, n):
    return lambda rng, d: (*_truncating(m, n)(rng, d), np.asarray(0.0), np.asarray(0.3))


_SHAPES = ((4, 4, 4), (5, 3, 3), (5, 3, 2), (3, 5, 3), (3, 5, 2))
_FACTORED = [(_factored(*shape), *shape[:2]) for shape in _SHAPES]
_FOR_FEW = [(_factored_by_equations(*shape), *shape) for shape in ((9, 9), (10, 2), (2, 10))]
_FOR_FEW += [(_factored(*shape), *shape[:2]) for shape in ((10, 2, 1), (2, 10, 2))]
RULE_INPUTS = {
    "truncation": [(_with_tolerances(m, n), {"hermitian": False}) for m, n in ((3, 3), (5, 3), (3, 5))],
    "pinv": [(factored, {}) for factored, *_ in _FACTORED],
    "pinv_apply": [
        _applied(*case, adjoint, for_few)
        for for_few, cases in ((False, _FACTORED), (True, _FOR_FEW))
        for case in cases
        for adjoint in (False, True)
    ],
    "squared_residuals": [
        (lambda rng, d, m=m, n=n: (general(rng, d, m, n), general(rng, d, m, 2), general(rng, d, n, 2)), {})
        for m, n in ((5, 3), (3, 5), (20, 9))
    ],
}
