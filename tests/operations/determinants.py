"""Determinants in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, unitary, well_conditioned, with_singular_values


def _square(n):
    return lambda rng, d: (well_conditioned(rng, d, n, n),)


def _of_rank(n, rank):
    return lambda rng, d: (with_singular_values(rng, d, n, n, np.linspace(2, 1, rank)),)


def _zero(n):
    return lambda rng, d: (np.zeros((n, n), d),)


def _positive(n):
    """Positive determinant (for real matrices: an even number of reflections)."""

    def inputs(rng, dtype):
        A = well_conditioned(rng, dtype, n, n)
        if not np.iscomplexobj(A) and np.linalg.det(A) < 0:
            A[0] = -A[0]
        return (A,)

    return inputs


def _shifted(out):
    """So that a determinant that is zero but for rounding errors is compared with 1."""
    return out + 1


def _logdet(a):
    sign, logabsdet = np.linalg.slogdet(a)
    return np.log(sign) + logabsdet


def _cofactor_case(n, rank):
    """delta, adj(A) and A for the derivative of the adjugate."""

    def inputs(rng, dtype):
        U, V = unitary(rng, dtype, n), unitary(rng, dtype, n)
        s = np.r_[np.linspace(2, 1, rank), np.zeros(n - rank)]
        c = np.linalg.det(U) * np.linalg.det(V.conj().T)
        adj = c * (V * [np.prod(np.delete(s, i)) for i in range(n)]) @ U.conj().T
        A = (U * s) @ V.conj().T
        delta = np.asarray(c * np.prod(s))
        return A.astype(dtype), delta.astype(dtype), adj.astype(dtype), general(rng, dtype, n, n)

    return inputs


CASES = [
    *(Case("det", f"{n} x {n}", _square(n), np.linalg.det) for n in (1, 2, 3, 4, 6)),
    Case("det", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.det),
    *(
        Case("det", f"{n} x {n} of rank {rank}", _of_rank(n, rank), lambda a: np.zeros((), a.dtype), view=_shifted)
        for n, rank in ((4, 3), (4, 2), (5, 4))
    ),
    Case("det", "zero", _zero(4), np.linalg.det),
    *(Case("slogdet", f"{n} x {n}", _square(n), lambda a: tuple(np.linalg.slogdet(a))) for n in (1, 2, 5)),
    Case("slogdet", "lu", _square(3), lambda a: tuple(np.linalg.slogdet(a)), {"method": "lu"}),
    Case("slogdet", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda a: tuple(np.linalg.slogdet(a))),
    *(Case("logdet", f"{n} x {n}", _positive(n), _logdet) for n in (1, 4)),
    Case("logdet", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda a: np.zeros((), a.dtype)),
]

ERRORS = [
    ("det", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.det: a must be square .* \(2, 3\)"),
    ("slogdet", (np.ones(3),), {}, ValueError, r"linalgx\.slogdet: a must have at least two axes"),
    ("slogdet", (np.eye(3),), {"method": "svd"}, ValueError, "method must be one of None, 'lu', 'qr', but 'svd'"),
    ("logdet", ([[1.0]],), {}, TypeError, r"linalgx\.logdet: a must be an array.* jnp\.asarray"),
]

RULE_INPUTS = {
    "det": [(_square(4), {}), (_of_rank(4, 3), {})],
    "det_by_cofactors": [(_square(n), {}) for n in (0, 1, 2, 3)],
    "cofactor_matrix": [(_square(n), {}) for n in (0, 1, 2, 3)],
    "det_and_adjugate": [(_square(4), {}), (_of_rank(4, 2), {})],
    "adjugate_derivative": [(_cofactor_case(4, 4), {})],
    "slogdet": [(_square(n), {}) for n in (3, 4)],
    "slogdet_by_cofactors": [(_square(n), {}) for n in (1, 2)],
    "inverse_by_cofactors": [(_square(n), {}) for n in (1, 2)],
    "slogdet_and_inverse": [(_square(4), {})],
}
