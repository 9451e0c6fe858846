"""Linear systems and inverses in the table."""

import numpy as np
import scipy.linalg

from tests.operations.case import Case
from tests.operations.inputs import general, well_conditioned


def _system(n, k, left=True):
    return lambda rng, d: (well_conditioned(rng, d, n, n), general(rng, d, *((n, k) if left else (k, n))))


def _from_the_right(a, b):
    return np.linalg.solve(a.T, b.T).T


def _tensor(*shape):
    n = int(np.sqrt(np.prod(shape)))
    return lambda rng, d: well_conditioned(rng, d, n, n).reshape(shape)


def _factored(n, k, left):
    def inputs(rng, dtype):
        A, B = _system(n, k, left)(rng, dtype)
        LU, pivots = scipy.linalg.lu_factor(A)
        return A, LU.astype(dtype), pivots.astype(np.int32), B

    return inputs


CASES = [
    Case("solve", "matrix", _system(4, 2), np.linalg.solve, differentiate=(0, 1)),
    Case("solve", "as many columns as rows", _system(3, 3), np.linalg.solve, differentiate=(0, 1)),
    Case(
        "solve",
        "from the right",
        _system(4, 2, left=False),
        _from_the_right,
        {"left": False},
        differentiate=(0, 1),
    ),
    Case(
        "solve",
        "vector",
        lambda rng, d: (well_conditioned(rng, d, 3, 3), general(rng, d, 3)),
        np.linalg.solve,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "solve",
        "vector from the right",
        lambda rng, d: (well_conditioned(rng, d, 3, 3), general(rng, d, 3)),
        lambda a, b: np.linalg.solve(a.T, b),
        {"left": False},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "solve",
        "vector for a batch",
        lambda rng, d: (np.stack([well_conditioned(rng, d, 3, 3) for _ in range(2)]), general(rng, d, 3)),
        lambda a, b: np.linalg.solve(a, b),
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "solve",
        "broadcast",
        lambda rng, d: (
            np.stack([well_conditioned(rng, d, 3, 3) for _ in range(2)])[:, None],
            general(rng, d, 4, 3, 2),
        ),
        np.linalg.solve,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "solve",
        "many right-hand sides",
        lambda rng, d: (well_conditioned(rng, d, 3, 3), general(rng, d, 2, 3, 2)),
        np.linalg.solve,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "solve",
        "many rows",
        lambda rng, d: (well_conditioned(rng, d, 3, 3), general(rng, d, 2, 2, 3)),
        lambda a, b: b @ np.linalg.inv(a),
        {"left": False},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case("solve", "1 x 1", _system(1, 2), np.linalg.solve, differentiate=(0, 1)),
    Case("solve", "0 x 0", lambda rng, d: (np.zeros((0, 0), d), np.zeros((0, 2), d)), np.linalg.solve),
    Case("solve", "no right-hand side", _system(3, 0), np.linalg.solve, differentiate=(0, 1)),
    Case(
        "solve_ex",
        "matrix",
        _system(3, 2),
        lambda a, b: (np.linalg.solve(a, b), np.int32(0)),
        differentiate=(0, 1),
    ),
    Case(
        "solve_ex",
        "from the right",
        _system(3, 2, left=False),
        lambda a, b: (_from_the_right(a, b), np.int32(0)),
        {"left": False},
        differentiate=(0, 1),
    ),
    Case("inv", "4 x 4", lambda rng, d: (well_conditioned(rng, d, 4, 4),), np.linalg.inv),
    Case("inv", "1 x 1", lambda rng, d: (well_conditioned(rng, d, 1, 1),), np.linalg.inv),
    Case("inv", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.inv),
    Case(
        "inv_ex",
        "3 x 3",
        lambda rng, d: (well_conditioned(rng, d, 3, 3),),
        lambda a: (np.linalg.inv(a), np.int32(0)),
    ),
    Case(
        "tensorsolve",
        "matrix",
        lambda rng, d: (_tensor(2, 3, 6)(rng, d), general(rng, d, 2, 3)),
        np.linalg.tensorsolve,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensorsolve",
        "axes",
        lambda rng, d: (np.moveaxis(_tensor(6, 3, 2)(rng, d), 0, 1), general(rng, d, 6)),
        lambda a, b: np.linalg.tensorsolve(a, b, axes=(0, 2)),
        {"axes": (0, 2)},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensorsolve",
        "axes from the end",
        lambda rng, d: (np.moveaxis(_tensor(6, 3, 2)(rng, d), 0, 1), general(rng, d, 6)),
        lambda a, b: np.linalg.tensorsolve(a, b, axes=(2, 0)),
        {"axes": (-1, -3)},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensorinv", "two and two", lambda rng, d: (_tensor(2, 3, 3, 2)(rng, d),), np.linalg.tensorinv, batchable=False
    ),
    Case(
        "tensorinv",
        "one and two",
        lambda rng, d: (_tensor(6, 2, 3)(rng, d),),
        lambda a: np.linalg.tensorinv(a, ind=1),
        {"ind": 1},
        batchable=False,
    ),
]

ERRORS = [
    ("solve", (np.ones((3, 2)), np.ones((3, 1))), {}, ValueError, r"linalgx\.solve: a must be square .* \(3, 2\)"),
    ("solve", (np.ones(3), np.ones(3)), {}, ValueError, r"linalgx\.solve: a must have at least two axes"),
    ("solve", (np.eye(3), np.ones((2, 1))), {}, ValueError, "linalgx.solve: b has 2 rows, but a is 3 x 3"),
    ("solve", (np.eye(3), np.ones((3, 1))), {"left": False}, ValueError, "b has 1 columns, but a is 3 x 3"),
    ("solve", (np.eye(3), np.ones(2)), {}, ValueError, "b has 2 elements, but a is 3 x 3"),
    ("solve", (np.ones((2, 3, 3)), np.ones((5, 3, 1))), {}, ValueError, "do not broadcast"),
    ("solve", (np.eye(3), [1.0, 2.0, 3.0]), {}, TypeError, r"b must be an array.* jnp\.asarray"),
    ("solve_ex", (np.eye(3), np.ones((2, 1))), {}, ValueError, "linalgx.solve_ex: b has 2 rows"),
    ("inv", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.inv: a must be square .* \(2, 3\)"),
    ("inv_ex", (np.ones(3),), {}, ValueError, r"linalgx\.inv_ex: a must have at least two axes"),
    ("tensorsolve", (np.ones((2, 3, 5)), np.ones((2, 3))), {}, ValueError, r"linalgx\.tensorsolve: .* \(2, 3, 5\)"),
    ("tensorsolve", (np.ones((2, 3, 6)), np.ones((2, 3))), {"axes": (3,)}, ValueError, "axes must be between -3 and 2"),
    ("tensorsolve", (np.ones((2, 3, 6)), np.ones((2, 3))), {"axes": [0, 0]}, ValueError, "axes must be different axes"),
    ("tensorsolve", (np.ones((2, 3, 6)), np.ones((2, 3))), {"axes": 0.5}, TypeError, "axes must be an integer"),
    ("solve", (np.ones((3, 3)), None), {}, TypeError, "b must be an array, but None came"),
    ("solve", (np.eye(3), np.ones(3)), {"left": 2}, TypeError, "left must be True or False"),
    ("inv_ex", (np.eye(3),), {"check_errors": "yes"}, TypeError, "check_errors must be True or False"),
    ("tensorinv", (np.ones((2, 3, 6)),), {"ind": -1}, ValueError, "ind must be positive, but -1 came"),
    ("tensorinv", (np.ones((2, 3, 6)),), {"ind": 1}, ValueError, r"linalgx\.tensorinv: .* \(2, 3, 6\) and ind = 1"),
    ("tensorinv", (np.ones((2, 2)),), {"ind": 0}, ValueError, "ind must be positive, but 0 came"),
    ("tensorinv", (np.ones((2, 2)),), {"ind": 1.5}, TypeError, "ind must be an integer"),
]

RULE_INPUTS = {
    "inv": [(lambda rng, d: (well_conditioned(rng, d, 4, 4),), {})],
    "solve": [
        (_factored(4, 2, left), {"left": left, "adjoint": adjoint})
        for left in (True, False)
        for adjoint in (True, False)
    ],
}
