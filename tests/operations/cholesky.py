"""The Cholesky family and triangular systems in the table."""

import numpy as np
import scipy.linalg

from tests.operations.case import Case
from tests.operations.inputs import general, positive_definite, triangular


def _solve_lower(L, b):
    return scipy.linalg.solve_triangular(L, b, lower=True)


def _inverse_of_factor(L):
    L = np.tril(L)
    return np.linalg.inv(L @ L.conj().T)


CASES = [
    Case("cholesky", "lower", lambda rng, d: (positive_definite(rng, d, 4),), np.linalg.cholesky),
    Case(
        "cholesky",
        "upper",
        lambda rng, d: (positive_definite(rng, d, 3),),
        lambda a: np.linalg.cholesky(a, upper=True),
        {"upper": True},
    ),
    Case(
        "cholesky",
        "not Hermitian",
        lambda rng, d: (positive_definite(rng, d, 3) + 0.1 * general(rng, d, 3, 3),),
        lambda a: np.linalg.cholesky((a + a.conj().T) / 2),
    ),
    Case(
        "cholesky",
        "one triangle",
        lambda rng, d: (positive_definite(rng, d, 3) + np.triu(general(rng, d, 3, 3), 1),),
        np.linalg.cholesky,
        {"symmetrize_input": False},
    ),
    Case(
        "cholesky",
        "upper triangle",
        lambda rng, d: (positive_definite(rng, d, 3) + np.tril(general(rng, d, 3, 3), -1),),
        lambda a: np.linalg.cholesky(a, upper=True),
        {"symmetrize_input": False, "upper": True},
    ),
    Case("cholesky", "1 x 1", lambda rng, d: (positive_definite(rng, d, 1),), np.linalg.cholesky),
    Case("cholesky", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.cholesky),
    Case(
        "cholesky_ex",
        "lower",
        lambda rng, d: (positive_definite(rng, d, 4),),
        lambda a: (np.linalg.cholesky(a), np.int32(0)),
    ),
    Case(
        "cholesky_ex",
        "upper triangle",
        lambda rng, d: (positive_definite(rng, d, 3) + np.tril(general(rng, d, 3, 3), -1),),
        lambda a: (np.linalg.cholesky(a, upper=True), np.int32(0)),
        {"symmetrize_input": False, "upper": True},
    ),
    Case(
        "cholesky_solve",
        "lower",
        lambda rng, d: (general(rng, d, 4, 2), triangular(rng, d, 4)),
        lambda b, L: scipy.linalg.cho_solve((L, True), b),
        differentiate=(0, 1),
    ),
    Case(
        "cholesky_solve",
        "upper",
        lambda rng, d: (general(rng, d, 3, 2), triangular(rng, d, 3, upper=True)),
        lambda b, U: scipy.linalg.cho_solve((U, False), b),
        {"upper": True},
        differentiate=(0, 1),
    ),
    Case("cholesky_inverse", "lower", lambda rng, d: (triangular(rng, d, 4),), _inverse_of_factor),
    Case(
        "cholesky_inverse",
        "upper",
        lambda rng, d: (triangular(rng, d, 3, upper=True),),
        lambda U: np.linalg.inv(np.triu(U).conj().T @ np.triu(U)),
        {"upper": True},
    ),
    Case(
        "cholesky_logdet",
        "lower",
        lambda rng, d: (triangular(rng, d, 4),),
        lambda L: 2 * np.log(np.real(np.diag(L))).sum(),
    ),
    Case(
        "solve_triangular",
        "lower",
        lambda rng, d: (triangular(rng, d, 4), general(rng, d, 4, 2)),
        _solve_lower,
        {"upper": False},
        differentiate=(0, 1),
    ),
    Case(
        "solve_triangular",
        "upper right",
        lambda rng, d: (triangular(rng, d, 3, upper=True), general(rng, d, 2, 3)),
        lambda a, b: b @ np.linalg.inv(np.triu(a)),
        {"upper": True, "left": False},
        differentiate=(0, 1),
    ),
    Case(
        "solve_triangular",
        "unit diagonal",
        lambda rng, d: (triangular(rng, d, 3), general(rng, d, 3, 1)),
        lambda a, b: scipy.linalg.solve_triangular(a, b, lower=True, unit_diagonal=True),
        {"upper": False, "unitriangular": True},
        differentiate=(0, 1),
    ),
    Case(
        "solve_triangular",
        "vector",
        lambda rng, d: (triangular(rng, d, 3), general(rng, d, 3)),
        _solve_lower,
        {"upper": False},
        differentiate=(0, 1),
        batchable=False,
    ),
]

# (function, arguments, options, type of the error, a regular expression that its message matches)
ERRORS = [
    ("cholesky", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.cholesky: a must be square .* \(2, 3\)"),
    ("cholesky", (np.ones(3),), {}, ValueError, r"linalgx\.cholesky: a must have at least two axes"),
    ("cholesky", ([[1.0]],), {}, TypeError, r"linalgx\.cholesky: a must be an array.* jnp\.asarray"),
    (
        "solve_triangular",
        (np.ones((3, 3)), np.ones((4, 1))),
        {"upper": True},
        ValueError,
        "b has 4 rows, but a is 3 x 3",
    ),
    ("solve_triangular", (np.ones((2, 3, 3)), np.ones((4, 3, 1))), {"upper": True}, ValueError, "do not broadcast"),
    ("cholesky", (np.eye(2),), {"upper": "yes"}, TypeError, "upper must be True or False, but 'yes' .* came"),
    ("cholesky_ex", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.cholesky_ex: a must be square"),
    ("cholesky_inverse", (np.ones(3),), {}, ValueError, r"linalgx\.cholesky_inverse: L must have at least two axes"),
    ("cholesky_solve", (np.ones((2, 3, 1)), np.ones((4, 3, 3))), {}, ValueError, "do not broadcast"),
    (
        "solve_triangular",
        (np.eye(3), np.ones(3)),
        {},
        TypeError,
        "missing a required (keyword-only )?argument: 'upper'",
    ),
    ("cholesky_logdet", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.cholesky_logdet: L must be square"),
    ("cholesky_solve", (np.ones(2), np.ones((3, 3))), {}, ValueError, "b has 2 elements, but L is 3 x 3"),
]

# the operations of RULES: arguments (from a generator and a dtype name) and static parameters, as their rules take them
_SYSTEM = lambda rng, d: (triangular(rng, d, 4), general(rng, d, 4, 2))
_RIGHT_SYSTEM = lambda rng, d: (triangular(rng, d, 4), general(rng, d, 2, 4))
RULE_INPUTS = {
    "cholesky": [(lambda rng, d: (positive_definite(rng, d, 4),), {})],
    "cholesky_solve": [(_SYSTEM, {})],
    "cholesky_inverse": [(lambda rng, d: (triangular(rng, d, 4),), {})],
    "solve_triangular": [
        (_SYSTEM if left else _RIGHT_SYSTEM, {"lower": lower, "left": left, "unit_diagonal": unit, "adjoint": adjoint})
        for lower in (True, False)
        for left in (True, False)
        for unit in (True, False)
        for adjoint in (True, False)
    ],
}
