"""The matrix exponential in the table."""

import numpy as np
import scipy.linalg

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian


def _jordan(rng, dtype):
    return (0.3 * np.eye(3) + np.diag([1.0, 1.0], 1)).astype(dtype)


def _skew(rng, dtype):
    X = general(rng, dtype, 4, 4)
    return X - X.conj().T


CASES = [
    Case("matrix_exp", "general", lambda rng, d: (general(rng, d, 4, 4),), scipy.linalg.expm),
    Case("matrix_exp", "small", lambda rng, d: (1e-4 * general(rng, d, 3, 3),), scipy.linalg.expm),
    Case("matrix_exp", "squared", lambda rng, d: (3 * _skew(rng, d),), scipy.linalg.expm, condition=100),
    Case("matrix_exp", "Hermitian", lambda rng, d: (hermitian(rng, d, 3),), scipy.linalg.expm),
    Case("matrix_exp", "defective", lambda rng, d: (_jordan(rng, d),), scipy.linalg.expm),
    Case("matrix_exp", "zero", lambda rng, d: (np.zeros((3, 3), d),), scipy.linalg.expm),
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
