"""The LU family in the table."""

import numpy as np
import scipy.linalg

from tests.operations.case import Case
from tests.operations.inputs import general, well_conditioned


def _dominant(rng, dtype, m, n):
    """A matrix that needs no row interchanges."""
    return (general(rng, dtype, m, n) / np.sqrt(max(m, n)) + 3 * np.eye(m, n)).astype(dtype)


def _plain_lu(a):
    """L U without interchanges, by columns."""
    (m, n), U = a.shape, a.copy()
    L = np.eye(m, min(m, n), dtype=a.dtype)
    for k in range(min(m, n)):
        L[k + 1 :, k] = U[k + 1 :, k] / U[k, k]
        U[k + 1 :] -= np.outer(L[k + 1 :, k], U[k])
    return np.eye(m, dtype=a.dtype), L, np.triu(U[: min(m, n)])


def _plain_factor(a):
    (m, n), (_, L, U) = a.shape, _plain_lu(a)
    LU = np.tril(L, -1) if m > n else np.hstack([np.tril(L, -1), np.zeros((m, n - m))])
    LU[: min(m, n)] += U
    return LU, np.arange(min(m, n), dtype=np.int32)


def _system(n, k, left=True):
    def inputs(rng, dtype):
        LU, pivots = scipy.linalg.lu_factor(well_conditioned(rng, dtype, n, n))
        return LU.astype(dtype), pivots.astype(np.int32), general(rng, dtype, *((n, k) if left else (k, n)))

    return inputs


def _vector_system(rng, dtype):
    LU, pivots, B = _system(3, 1)(rng, dtype)
    return LU, pivots, B[:, 0]


def _matrix_of(LU, pivots):
    L, U = np.tril(LU, -1) + np.eye(len(LU)), np.triu(LU)
    A = L @ U
    for i in reversed(range(len(pivots))):
        A[[i, pivots[i]]] = A[[pivots[i], i]]
    return A


def _solve(left, adjoint):
    def reference(LU, pivots, B):
        A = _matrix_of(LU, pivots)
        A = A.conj().T if adjoint else A
        return np.linalg.solve(A, B) if left else np.linalg.solve(A.T, B.T).T

    return reference


def _unpacked(LU, pivots):
    m, n = LU.shape
    k = min(m, n)
    P = np.eye(m)
    for i in range(k):
        P[[i, pivots[i]]] = P[[pivots[i], i]]
    return P.T, np.tril(LU[:, :k], -1) + np.eye(m, k), np.triu(LU[:k])


def _packed(m, n):
    def inputs(rng, dtype):
        return general(rng, dtype, m, n), np.array([rng.integers(i, m) for i in range(min(m, n))], np.int32)

    return inputs


_SHAPES = [("square", 4, 4), ("tall", 5, 3), ("wide", 3, 5), ("1 x 1", 1, 1), ("1 column", 3, 1), ("1 row", 1, 3)]
_EMPTY = [("0 x 0", 0, 0), ("no columns", 3, 0), ("no rows", 0, 3)]


def _matrix(make, m, n):
    return lambda rng, d: (make(rng, d, m, n) if m and n else np.zeros((m, n), d),)


CASES = [
    *(Case("lu", label, _matrix(well_conditioned, m, n), scipy.linalg.lu) for label, m, n in _SHAPES),
    *(Case("lu", label, _matrix(well_conditioned, m, n), _plain_lu) for label, m, n in _EMPTY),
    *(
        Case("lu", f"{label}, no pivots", _matrix(_dominant, m, n), _plain_lu, {"pivot": False})
        for label, m, n in _SHAPES + _EMPTY
    ),
    *(Case("lu_factor", label, _matrix(well_conditioned, m, n), scipy.linalg.lu_factor) for label, m, n in _SHAPES),
    *(
        Case("lu_factor", f"{label}, no pivots", _matrix(_dominant, m, n), _plain_factor, {"pivot": False})
        for label, m, n in _SHAPES + _EMPTY
    ),
    Case(
        "lu_factor_ex",
        "square",
        _matrix(well_conditioned, 4, 4),
        lambda a: (*scipy.linalg.lu_factor(a), np.int32(0)),
    ),
    *(
        Case(
            "lu_solve",
            f"{'A^H' if adjoint else 'A'} on the {'left' if left else 'right'}",
            _system(4, 2, left),
            _solve(left, adjoint),
            {"left": left, "adjoint": adjoint},
            differentiate=(0, 2),
        )
        for left in (True, False)
        for adjoint in (True, False)
    ),
    Case("lu_solve", "1 x 1", _system(1, 1), _solve(True, False), differentiate=(0, 2)),
    Case("lu_solve", "vector", _vector_system, _solve(True, False), differentiate=(0, 2), batchable=False),
    Case(
        "lu_solve",
        "0 x 0",
        lambda rng, d: (np.zeros((0, 0), d), np.zeros(0, np.int32), np.zeros((0, 2), d)),
        lambda LU, pivots, B: B,
        differentiate=(0, 2),
    ),
    *(Case("lu_unpack", label, _packed(m, n), _unpacked) for label, m, n in _SHAPES + _EMPTY),
    Case(
        "lu_unpack",
        "data alone",
        _packed(4, 3),
        lambda *packed: (np.zeros((0, 0)), *_unpacked(*packed)[1:]),
        {"unpack_pivots": False},
    ),
    Case(
        "lu_unpack",
        "pivots alone",
        _packed(4, 3),
        lambda *packed: (_unpacked(*packed)[0], np.zeros((0, 0)), np.zeros((0, 0))),
        {"unpack_data": False},
    ),
]

_EYE, _PIVOTS = np.eye(3), np.arange(3)
ERRORS = [
    ("lu", (np.ones(3),), {}, ValueError, r"linalgx\.lu: a must have at least two axes"),
    ("lu_factor", ([[1.0]],), {}, TypeError, r"linalgx\.lu_factor: a must be an array.* jnp\.asarray"),
    ("lu_factor_ex", (np.ones(3),), {}, ValueError, r"linalgx\.lu_factor_ex: a must have at least two axes"),
    ("lu_solve", (_EYE, _PIVOTS, np.ones((2, 1))), {}, ValueError, "b has 2 rows, but LU is 3 x 3"),
    ("lu_solve", (_EYE, _PIVOTS, np.ones((3, 1))), {"left": False}, ValueError, "b has 1 columns, but LU is 3 x 3"),
    ("lu_solve", (np.ones((3, 2)), _PIVOTS, np.ones((3, 1))), {}, ValueError, "LU must be square"),
    ("lu_solve", (_EYE, _PIVOTS * 1.0, np.ones((3, 1))), {}, TypeError, "pivots must be an array of integers"),
    ("lu_solve", (_EYE, np.arange(2), np.ones((3, 1))), {}, ValueError, r"pivots must have the shape \(3,\) .* \(2,\)"),
    ("lu_solve", (np.ones((2, 3, 3)), np.zeros((2, 3), int), np.ones((4, 3, 1))), {}, ValueError, "do not broadcast"),
    (
        "lu_solve",
        (np.ones((2, 3, 3)), _PIVOTS, np.ones((3, 1))),
        {},
        ValueError,
        r"pivots must have the shape \(2, 3\)",
    ),
    ("lu_factor_ex", (_EYE,), {"pivot": None}, TypeError, "pivot must be True or False, but None came"),
    ("lu_unpack", (_EYE, np.arange(2)), {}, ValueError, r"linalgx\.lu_unpack: pivots must have the shape \(3,\)"),
    ("lu_unpack", (_EYE, _PIVOTS > 0), {}, TypeError, "pivots must be an array of integers, but its dtype is bool"),
]

RULE_INPUTS = {
    "lu_factor": [
        *((_matrix(well_conditioned, m, n), {"pivot": True}) for _, m, n in _SHAPES),
        *((_matrix(_dominant, m, n), {"pivot": False}) for _, m, n in _SHAPES),
    ],
    "lu_solve": [
        (_system(4, 2, left), {"left": left, "adjoint": adjoint}) for left in (True, False) for adjoint in (True, False)
    ],
}
