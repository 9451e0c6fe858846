"""The matrix exponential in the table."""

import mpmath
import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian


def exact(A: np.ndarray) -> np.ndarray:
    """exp(A) by the Taylor series in 60 digits, after a scaling that leaves the norm below 1/8.

    Not scipy.linalg.expm: it is off by hundreds of eps at some ordinary matrices.
    """
    with mpmath.workdps(60):
        halvings = max(0, int(np.ceil(np.log2(np.linalg.norm(A, 1) + 1e-300)))) + 3
        X = mpmath.matrix(A.tolist()) / mpmath.mpf(2) ** halvings
        term = total = mpmath.eye(len(A))
        for k in range(1, 35):
            term = term * X / k
            total = total + term
        for _ in range(halvings):
            total = total * total
        kind = complex if np.iscomplexobj(A) else float
        return np.array([[kind(x) for x in row] for row in total.tolist()])


def _jordan(rng, dtype):
    return (0.3 * np.eye(3) + np.diag([1.0, 1.0], 1)).astype(dtype)


def _skew(rng, dtype):
    X = general(rng, dtype, 4, 4)
    return X - X.conj().T


CASES = [
    Case("matrix_exp", "general", lambda rng, d: (general(rng, d, 4, 4),), exact),
    Case("matrix_exp", "small", lambda rng, d: (1e-4 * general(rng, d, 3, 3),), exact),
    Case("matrix_exp", "squared", lambda rng, d: (3 * _skew(rng, d),), exact, condition=100),
    Case("matrix_exp", "Hermitian", lambda rng, d: (hermitian(rng, d, 3),), exact),
    Case("matrix_exp", "defective", lambda rng, d: (_jordan(rng, d),), exact),
    Case("matrix_exp", "zero", lambda rng, d: (np.zeros((3, 3), d),), exact),
    Case("matrix_exp", "1 x 1", lambda rng, d: (general(rng, d, 1, 1),), np.exp),
    Case("matrix_exp", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda a: a),
]

ERRORS = [
    ("matrix_exp", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.matrix_exp: a must be square .* \(2, 3\)"),
    ("matrix_exp", (np.ones(3),), {}, ValueError, r"linalgx\.matrix_exp: a must have at least two axes"),
    ("matrix_exp", ([[1.0]],), {}, TypeError, r"linalgx\.matrix_exp: a must be an array.* jnp\.asarray"),
]

# the matrix, and the directions of its Fréchet derivatives
RULE_INPUTS = {
    "matrix_exp": [
        (lambda rng, d, order=order: tuple(general(rng, d, 4, 4) for _ in range(order + 1)), {}) for order in range(3)
    ],
}
