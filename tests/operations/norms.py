"""Norms, condition numbers and ranks in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, hermitian, well_conditioned, with_singular_values

INF = np.inf
VECTOR_ORDERS = (2, 1, 0, 3, 4, 0.5, 1.5, -1, -2.5, INF, -INF)
MATRIX_ORDERS = ("fro", "nuc", 1, -1, 2, -2, INF, -INF)


def away_from_kinks(rng, dtype, *shape):
    """Moduli separated between 1 and 3, in random order: no zeros and no ties."""
    phases = general(rng, dtype, *shape)
    moduli = rng.permutation(np.linspace(1, 3, phases.size)).reshape(shape)
    return (phases / np.abs(phases) * moduli).astype(dtype)


def _separated_sums(rng, dtype, m, n):
    """No zeros, and the sums of the moduli of rows and of columns well apart."""
    return (away_from_kinks(rng, dtype, m, n) * np.outer(4.0 ** np.arange(m), 4.0 ** np.arange(n))).astype(dtype)


def _for_order(ord, m, n):
    """Inputs at which the matrix norm of this order is smooth."""
    generate = _separated_sums if ord in (1, -1, INF, -INF) else well_conditioned
    return lambda rng, d: (generate(rng, d, m, n),)


def _nuclear_condition(x):
    s = np.linalg.svd(x, compute_uv=False)
    return s.sum() * (1 / s).sum()


def _rank_two(rng, dtype):
    return with_singular_values(rng, dtype, 4, 3, [2.0, 1.0])


CASES = [
    *(
        Case(
            "vector_norm",
            f"ord = {ord}",
            lambda rng, d: (away_from_kinks(rng, d, 5),),
            lambda x, ord=ord: np.linalg.norm(x, ord, axis=-1),
            {"ord": ord, "axis": -1},
            differentiate=(0,) if ord else (),
        )
        for ord in VECTOR_ORDERS
    ),
    Case(
        "vector_norm",
        "flattened",
        lambda rng, d: (away_from_kinks(rng, d, 2, 3),),
        lambda x: np.linalg.norm(x.ravel()),
        batchable=False,
    ),
    Case(
        "vector_norm",
        "two axes",
        lambda rng, d: (away_from_kinks(rng, d, 2, 3, 2),),
        lambda x: np.linalg.vector_norm(x, axis=(0, -1), ord=3),
        {"axis": (0, -1), "ord": 3},
        batchable=False,
    ),
    Case(
        "vector_norm",
        "kept",
        lambda rng, d: (away_from_kinks(rng, d, 2, 3),),
        lambda x: np.linalg.vector_norm(x, keepdims=True, ord=1),
        {"keepdims": True, "ord": 1},
        batchable=False,
    ),
    Case(
        "vector_norm",
        "each element",
        lambda rng, d: (away_from_kinks(rng, d, 2, 3),),
        np.abs,
        {"axis": ()},
        batchable=False,
    ),
    Case("vector_norm", "no elements", lambda rng, d: (np.zeros((3, 0), d),), lambda x: np.zeros(3), {"axis": -1}),
    Case("vector_norm", "scalar", lambda rng, d: (away_from_kinks(rng, d),), np.abs, batchable=False),
    *(
        Case(
            "matrix_norm",
            f"ord = {ord}",
            _for_order(ord, *shape),
            lambda x, ord=ord: np.linalg.norm(x, ord),
            {"ord": ord},
        )
        for ord, shape in zip(
            MATRIX_ORDERS, [(3, 4), (4, 3), (3, 2), (2, 4), (3, 4), (4, 3), (3, 3), (2, 3)], strict=True
        )
    ),
    Case(
        "matrix_norm",
        "kept",
        lambda rng, d: (general(rng, d, 3, 2),),
        lambda x: np.linalg.matrix_norm(x, keepdims=True, ord=1),
        {"keepdims": True, "ord": 1},
    ),
    *(
        Case(
            "matrix_norm",
            f"0 x 3, ord = {ord}",
            lambda rng, d: (np.zeros((0, 3), d),),
            lambda x: np.zeros(()),
            {"ord": ord},
            differentiate=(0,) if ord == 2 else (),
        )
        for ord in ("fro", "nuc", 1, 2, INF)
    ),
    Case("norm", "flattened", lambda rng, d: (general(rng, d, 2, 3, 2),), np.linalg.norm, batchable=False),
    Case(
        "norm",
        "vector",
        lambda rng, d: (away_from_kinks(rng, d, 4),),
        lambda x: np.linalg.norm(x, 3),
        {"ord": 3},
        batchable=False,
    ),
    Case(
        "norm",
        "matrix",
        lambda rng, d: (well_conditioned(rng, d, 3, 3),),
        lambda x: np.linalg.norm(x, 2),
        {"ord": 2},
        batchable=False,
    ),
    Case(
        "norm",
        "axis",
        lambda rng, d: (away_from_kinks(rng, d, 2, 3),),
        lambda x: np.linalg.norm(x, INF, axis=0),
        {"ord": INF, "axis": 0},
        batchable=False,
    ),
    *(
        Case(
            "norm",
            f"axes 2 and 0, ord = {ord}",
            lambda rng, d: (away_from_kinks(rng, d, 3, 2, 4),),
            lambda x, ord=ord: np.linalg.norm(x, ord, axis=(2, 0), keepdims=True),
            {"ord": ord, "axis": (2, 0), "keepdims": True},
            differentiate=(0,) if ord in (None, -1, 2) else (),
            batchable=False,
        )
        for ord in (None, *MATRIX_ORDERS)
    ),
    *(
        Case(
            "cond",
            f"p = {p}",
            lambda rng, d: (well_conditioned(rng, d, 3, 3),),
            _nuclear_condition if p == "nuc" else lambda x, p=p: np.linalg.cond(x, p),
            {"p": p},
        )
        for p in (None, *MATRIX_ORDERS)
    ),
    Case("cond", "tall", lambda rng, d: (well_conditioned(rng, d, 4, 3),), np.linalg.cond),
    Case("cond", "wide", lambda rng, d: (well_conditioned(rng, d, 2, 3),), lambda x: np.linalg.cond(x, -2), {"p": -2}),
    Case("cond", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda x: np.zeros(())),
    Case(
        "matrix_rank", "full", lambda rng, d: (well_conditioned(rng, d, 3, 4),), np.linalg.matrix_rank, differentiate=()
    ),
    Case("matrix_rank", "deficient", lambda rng, d: (_rank_two(rng, d),), lambda x: 2, differentiate=()),
    Case(
        "matrix_rank",
        "Hermitian",
        lambda rng, d: (hermitian(rng, d, 4),),
        lambda x: 4,
        {"hermitian": True},
        differentiate=(),
    ),
    Case("matrix_rank", "relative", lambda rng, d: (_rank_two(rng, d),), lambda x: 1, {"rtol": 0.75}, differentiate=()),
    Case("matrix_rank", "absolute", lambda rng, d: (_rank_two(rng, d),), lambda x: 0, {"atol": 2.5}, differentiate=()),
    Case("matrix_rank", "tol", lambda rng, d: (_rank_two(rng, d),), lambda x: 1, {"tol": 1.5}, differentiate=()),
    Case("matrix_rank", "zero", lambda rng, d: (np.zeros((3, 2), d),), lambda x: 0, differentiate=()),
    Case("matrix_rank", "0 x 3", lambda rng, d: (np.zeros((0, 3), d),), lambda x: 0, differentiate=()),
    Case("matrix_rank", "vector", lambda rng, d: (general(rng, d, 3),), lambda x: 1, differentiate=(), batchable=False),
    Case(
        "matrix_rank", "zero scalar", lambda rng, d: (np.zeros((), d),), lambda x: 0, differentiate=(), batchable=False
    ),
]

_matrix, _vector = np.ones((2, 3)), np.ones(3)
ERRORS = [
    ("vector_norm", ([1.0],), {}, TypeError, r"linalgx\.vector_norm: x must be an array.* jnp\.asarray"),
    ("vector_norm", (_matrix,), {"axis": 2}, ValueError, "axis must be between -2 and 1, but 2 came"),
    ("vector_norm", (_matrix,), {"axis": (0, -2)}, ValueError, "axis must be different axes"),
    ("vector_norm", (_matrix,), {"axis": 0.5}, TypeError, "axis must be an integer"),
    ("vector_norm", (_vector,), {"ord": "fro"}, ValueError, "ord must be a real number for vectors, but 'fro' came"),
    ("vector_norm", (_vector,), {"ord": np.nan}, ValueError, "ord must be a real number for vectors, but nan came"),
    ("vector_norm", (_vector,), {"ord": 2j}, ValueError, "ord must be a real number for vectors, but 2j came"),
    (
        "vector_norm",
        (np.zeros((3, 0)),),
        {"axis": 1, "ord": -1},
        ValueError,
        "ord must not be negative for vectors of length 0",
    ),
    ("matrix_norm", (_vector,), {}, ValueError, "x must have at least two axes"),
    (
        "matrix_norm",
        (_matrix,),
        {"ord": 3},
        ValueError,
        "ord must be one of 'fro', 'nuc', 1, .* for matrices, but 3 came",
    ),
    ("matrix_norm", (_matrix,), {"ord": "frobenius"}, ValueError, "for matrices, but 'frobenius' came"),
    ("matrix_norm", (np.zeros((0, 3)),), {"ord": -2}, ValueError, "x must have elements for a smallest singular value"),
    ("matrix_norm", (np.zeros((3, 0)),), {"ord": -1}, ValueError, "ord must not be negative for vectors of length 0"),
    ("matrix_norm", (np.zeros((0, 3)),), {"ord": -INF}, ValueError, "ord must not be negative for vectors of length 0"),
    (
        "norm",
        (np.ones((2, 2, 2)),),
        {"ord": 2},
        ValueError,
        r"x must have one or two axes if ord is given, but its shape is \(2, 2, 2\)",
    ),
    ("norm", (np.ones((2, 2, 2)),), {"ord": 2, "axis": (0, 1, 2)}, ValueError, "one axis or two if ord is given"),
    ("norm", (_matrix,), {"axis": (1, 1)}, ValueError, "axis must be different axes"),
    ("norm", (_matrix,), {"axis": {0, 1}}, TypeError, r"axis must be a hashable Python value .* but \{0, 1\} \(set\)"),
    ("norm", (_matrix,), {"axis": (0, 5)}, ValueError, "axis must be between -2 and 1, but 5 came"),
    ("norm", (_matrix,), {"axis": "01"}, TypeError, "axis must be an integer"),
    ("norm", (_matrix,), {"keepdims": None}, TypeError, "keepdims must be True or False"),
    ("matrix_norm", (_matrix,), {"ord": 2 + 0j}, ValueError, "for matrices, but"),
    ("vector_norm", (_vector,), {"ord": 10**400}, ValueError, "ord must be a real number for vectors"),
    ("matrix_rank", (np.ones((2, 3, 3)),), {"rtol": np.ones(3)}, ValueError, "rtol must broadcast with the batch axes"),
    ("norm", (_vector,), {"ord": "nuc"}, ValueError, "ord must be a real number for vectors, but 'nuc' came"),
    ("cond", (_vector,), {}, ValueError, "x must have at least two axes"),
    ("cond", (_matrix,), {"p": 1}, ValueError, "x must be square"),
    ("cond", (np.eye(2),), {"p": 5}, ValueError, "p must be one of .* but 5 came"),
    (
        "matrix_rank",
        (_matrix,),
        {"rtol": np.ones(2), "atol": np.ones(3)},
        ValueError,
        r"atol must broadcast with the batch axes \(2,\)",
    ),
    ("matrix_rank", (_matrix,), {"hermitian": True}, ValueError, "M must be square"),
    ("matrix_rank", (_matrix,), {"tol": 1.0, "atol": 1.0}, ValueError, "tol must come alone, but atol came, too"),
    ("matrix_rank", (_matrix,), {"tol": 1.0, "rtol": 0.0}, ValueError, "tol must come alone, but rtol came, too"),
    ("matrix_rank", (_matrix,), {"rtol": 1j}, TypeError, "rtol must be real, but its dtype is complex"),
]

_RULE_ORDERS = (2.0, 1.0, 3.0, 4.0, 0.5, 1.5, -1.0, INF, -INF)
RULE_INPUTS = {
    "vector_norm": [
        *((lambda rng, d: (away_from_kinks(rng, d, 5),), {"ord": ord, "axis": (-1,)}) for ord in _RULE_ORDERS),
        (lambda rng, d: (away_from_kinks(rng, d, 3, 2, 2),), {"ord": 2.0, "axis": (-3, -1)}),
        (lambda rng, d: (away_from_kinks(rng, d, 3),), {"ord": 2.0, "axis": ()}),
    ],
    "quotient": [
        (lambda rng, d: (general(rng, d, 3, 2), 1 + np.abs(general(rng, d, 3, 1))), {"axis": (-1,)}),
        (lambda rng, d: (general(rng, d, 3), 1 + np.abs(general(rng, d, 3))), {"axis": ()}),
    ],
    "extreme": [
        (lambda rng, d: (np.abs(general(rng, d, 4)).astype(np.finfo(d).dtype)[np.newaxis],), {"largest": largest})
        for largest in (True, False)
    ],
}
