"""Products in the table."""

import itertools

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, well_conditioned


def _chain(rng, d, *sizes):
    return tuple(general(rng, d, m, n) for m, n in itertools.pairwise(sizes))


def _multi_dot(*arrays):
    return np.linalg.multi_dot(arrays)


def _vector_cases(name, reference, lengths, **options):
    return [
        Case(
            name,
            "vectors",
            lambda rng, d: tuple(general(rng, d, n) for n in lengths),
            reference,
            options,
            differentiate=(0, 1),
        ),
    ]


CASES = [
    Case(
        "matmul",
        "matrices",
        lambda rng, d: (general(rng, d, 2, 3), general(rng, d, 3, 4)),
        np.matmul,
        differentiate=(0, 1),
    ),
    Case(
        "matmul",
        "no inner axis",
        lambda rng, d: (np.ones((2, 0), d), np.ones((0, 3), d)),
        np.matmul,
        differentiate=(0, 1),
    ),
    Case(
        "matmul",
        "vectors",
        lambda rng, d: (general(rng, d, 3), general(rng, d, 3)),
        np.matmul,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "matmul",
        "matrix and vector",
        lambda rng, d: (general(rng, d, 2, 4, 3), general(rng, d, 3)),
        np.matmul,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "matmul",
        "batches broadcast",
        lambda rng, d: (general(rng, d, 2, 1, 2, 3), general(rng, d, 4, 3, 2)),
        np.matmul,
        differentiate=(0, 1),
        batchable=False,
    ),
    *_vector_cases("vecdot", lambda x, y: np.sum(x.conj() * y, axis=-1), (4, 4)),
    Case(
        "vecdot",
        "axis",
        lambda rng, d: (general(rng, d, 3, 2), general(rng, d, 4, 3, 1)),
        lambda x, y: np.sum(x.conj() * y, axis=-2),
        {"axis": -2},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "outer",
        "vectors",
        lambda rng, d: (general(rng, d, 2), general(rng, d, 3)),
        np.outer,
        differentiate=(0, 1),
        batchable=False,
    ),
    *_vector_cases("cross", np.cross, (3, 3)),
    Case(
        "cross",
        "axis",
        lambda rng, d: (general(rng, d, 3, 2), general(rng, d, 4, 3, 1)),
        lambda x, y: np.linalg.cross(x, y, axis=-2),
        {"axis": -2},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensordot",
        "two axes",
        lambda rng, d: (general(rng, d, 2, 3, 4), general(rng, d, 3, 4, 2)),
        np.tensordot,
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensordot",
        "no axes",
        lambda rng, d: (general(rng, d, 2), general(rng, d, 3)),
        lambda x, y: np.tensordot(x, y, 0),
        {"axes": 0},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensordot",
        "one axis",
        lambda rng, d: (general(rng, d, 2, 3), general(rng, d, 4, 2)),
        lambda x, y: np.tensordot(x, y, (0, -1)),
        {"axes": (0, -1)},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "tensordot",
        "lists of axes",
        lambda rng, d: (general(rng, d, 2, 3, 4), general(rng, d, 4, 2)),
        lambda x, y: np.tensordot(x, y, ([0, 2], [1, 0])),
        {"axes": ([0, 2], [1, 0])},
        differentiate=(0, 1),
        batchable=False,
    ),
    Case(
        "multi_dot",
        "three",
        lambda rng, d: _chain(rng, d, 2, 5, 3, 4),
        _multi_dot,
        differentiate=(0, 1, 2),
        as_list=True,
    ),
    Case(
        "multi_dot",
        "four",
        lambda rng, d: _chain(rng, d, 3, 1, 4, 2, 5),
        _multi_dot,
        differentiate=(0, 1, 2, 3),
        as_list=True,
    ),
    Case(
        "multi_dot",
        "row and column",
        lambda rng, d: (general(rng, d, 3), general(rng, d, 3, 2), general(rng, d, 2)),
        _multi_dot,
        differentiate=(0, 1, 2),
        as_list=True,
        batchable=False,
    ),
    Case(
        "multi_dot",
        "two vectors",
        lambda rng, d: (general(rng, d, 3), general(rng, d, 3)),
        _multi_dot,
        differentiate=(0, 1),
        as_list=True,
        batchable=False,
    ),
    Case("vander", "square", lambda rng, d: (general(rng, d, 4),), lambda x: np.vander(x, increasing=True)),
    Case(
        "vander",
        "five powers",
        lambda rng, d: (general(rng, d, 2),),
        lambda x: np.vander(x, 5, increasing=True),
        {"N": 5},
    ),
    Case(
        "vander",
        "one power",
        lambda rng, d: (general(rng, d, 2),),
        lambda x: np.vander(x, 1, increasing=True),
        {"N": 1},
    ),
    Case(
        "vander",
        "no powers",
        lambda rng, d: (general(rng, d, 2),),
        lambda x: np.vander(x, 0, increasing=True),
        {"N": 0},
    ),
    Case("vander", "no elements", lambda rng, d: (general(rng, d, 0),), lambda x: np.vander(x, increasing=True)),
    Case("diagonal", "main", lambda rng, d: (general(rng, d, 3, 4),), np.linalg.diagonal),
    Case(
        "diagonal",
        "below",
        lambda rng, d: (general(rng, d, 3, 4),),
        lambda x: np.linalg.diagonal(x, offset=-1),
        {"offset": -1},
    ),
    Case(
        "diagonal",
        "outside",
        lambda rng, d: (general(rng, d, 3, 4),),
        lambda x: np.linalg.diagonal(x, offset=7),
        {"offset": 7},
    ),
    Case("trace", "main", lambda rng, d: (general(rng, d, 3, 4),), np.linalg.trace),
    Case(
        "trace", "above", lambda rng, d: (general(rng, d, 3, 4),), lambda x: np.linalg.trace(x, offset=2), {"offset": 2}
    ),
    Case("trace", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.trace),
    Case("matrix_transpose", "wide", lambda rng, d: (general(rng, d, 2, 3),), lambda x: x.swapaxes(-1, -2)),
    *(
        Case(
            "matrix_power",
            f"n = {n}",
            lambda rng, d: (well_conditioned(rng, d, 3, 3),),
            lambda a, n=n: np.linalg.matrix_power(a, n),
            {"n": n},
            condition=1000.0,
            derivative_condition=1e4,
        )
        for n in (0, 1, 3, 6, -1, -2)
    ),
    Case("matrix_power", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda a: a, {"n": 3}),
]

_square = np.ones((2, 2))
ERRORS = [
    (
        "matmul",
        (np.ones((2, 3)), np.ones((2, 3))),
        {},
        ValueError,
        r"linalgx\.matmul: x1 of shape \(2, 3\) and x2 of shape \(2, 3\) do not fit",
    ),
    (
        "matmul",
        (np.ones((2, 3, 3)), np.ones((3, 3, 3))),
        {},
        ValueError,
        r"batch axes \(2,\) of x1 and \(3,\) of x2 do not broadcast",
    ),
    ("matmul", (np.float64(1), np.ones(3)), {}, ValueError, "x1 must have at least one axis"),
    ("matmul", ([[1.0]], _square), {}, TypeError, r"x1 must be an array.* jnp\.asarray"),
    ("vecdot", (np.ones(2), np.ones(3)), {}, ValueError, "vectors of length 2, but x2 of length 3"),
    ("vecdot", (np.ones(2), np.ones(2)), {"axis": 1}, ValueError, "axis must be between -1 and 0, but 1 came"),
    ("outer", (np.ones(2), _square), {}, ValueError, "x2 must have one axis"),
    ("cross", (np.ones(3, bool), np.ones(3, bool)), {}, TypeError, "x1 and x2 must not both be boolean"),
    ("cross", (np.ones(2), np.ones(3)), {}, ValueError, "x1 must have length 3 along axis -1, but it is 2"),
    ("cross", (np.ones((2, 3)), np.ones((4, 3))), {}, ValueError, "do not broadcast"),
    ("cross", (np.ones(3), np.ones(3)), {"axis": -2}, ValueError, "axis must be between -1 and 0, but -2 came"),
    (
        "tensordot",
        (np.ones((2, 3)), np.ones((3, 2))),
        {"axes": 2},
        ValueError,
        "axis 0 of x1 has length 2, but axis 0 of x2 has 3",
    ),
    (
        "tensordot",
        (np.ones((2, 3)), np.ones((3, 2))),
        {"axes": 3},
        ValueError,
        "axes must be between 0 and 2, but 3 came",
    ),
    ("tensordot", (_square, _square), {"axes": ([0, 0], [0, 1])}, ValueError, r"axes\[0\] must be different axes"),
    (
        "tensordot",
        (_square, _square),
        {"axes": ([0], [0, 1])},
        ValueError,
        "axes must be two sequences of the same length",
    ),
    ("tensordot", (_square, _square), {"axes": "01"}, TypeError, "axes must be an integer"),
    ("multi_dot", ([_square],), {}, ValueError, "arrays must be at least two, but 1 came"),
    ("multi_dot", (_square,), {}, TypeError, "arrays must be a list or tuple of arrays"),
    ("multi_dot", ([_square, np.ones(2), _square],), {}, ValueError, r"arrays\[1\] must have at least two axes"),
    (
        "multi_dot",
        ([np.ones((2, 3)), np.ones((2, 3))],),
        {},
        ValueError,
        r"arrays\[0\] has 3 columns, but arrays\[1\] has 2 rows",
    ),
    ("multi_dot", ([np.ones((2, 2, 2)), np.ones((3, 2, 2))],), {}, ValueError, "do not broadcast"),
    ("vander", (np.float64(1),), {}, ValueError, "x must have at least one axis"),
    ("vander", (np.ones(2),), {"N": -1}, ValueError, "N must not be negative, but -1 came"),
    ("vander", (np.ones(2),), {"N": 1.5}, TypeError, "N must be an integer"),
    ("diagonal", (np.ones(2),), {}, ValueError, "x must have at least two axes"),
    ("diagonal", (_square,), {"offset": 0.5}, TypeError, "offset must be an integer"),
    ("trace", (np.ones(2),), {}, ValueError, "x must have at least two axes"),
    ("matrix_transpose", (np.ones(2),), {}, ValueError, "x must have at least two axes"),
    ("matrix_power", (np.ones((2, 3)), 2), {}, ValueError, "a must be square"),
    ("matrix_power", (_square, 0.5), {}, TypeError, "n must be an integer"),
    ("matrix_power", (_square, 2.0), {}, TypeError, r"n must be an integer, but 2\.0 \(float\) came"),
    ("matrix_power", (_square, "2"), {}, TypeError, "n must be an integer"),
    ("matrix_power", (_square, None), {}, TypeError, "n must be an integer, but None came"),
    ("matrix_power", (_square, [2]), {}, TypeError, "n must be a hashable Python value"),
    ("vander", (np.ones(2),), {"N": "2"}, TypeError, "N must be an integer"),
    ("trace", (_square,), {"dtype": "float65"}, TypeError, "dtype must be a dtype of numbers or None, but 'float65'"),
    ("trace", (_square,), {"dtype": np.float64(1)}, TypeError, "dtype must be a dtype of numbers or None"),
    ("trace", (_square,), {"dtype": str}, TypeError, "dtype must be a dtype of numbers or None"),
    ("matmul", (_square, _square), {"precision": "exact"}, ValueError, "precision must be None or a precision of jax"),
    ("matmul", (_square, _square), {"preferred_element_type": 3}, TypeError, "must be a dtype of numbers or None"),
    ("vecdot", (np.ones(2), np.ones(2)), {"axis": None}, TypeError, "axis must be an integer, but None came"),
    ("tensordot", (_square, _square), {"axes": None}, TypeError, "axes must be an integer, but None came"),
    ("tensordot", (_square, _square), {"axes": ([0, 2], [0, 1])}, ValueError, r"axes\[0\] must be between -2 and 1"),
    ("multi_dot", ({"a": _square},), {}, TypeError, "arrays must be a list or tuple of arrays"),
    ("multi_dot", ([_square, "b"],), {}, TypeError, r"arrays\[1\] must be an array of numbers, but 'b' \(str\) came"),
]

RULE_INPUTS = {"matmul": [(lambda rng, d: (general(rng, d, 4, 3), general(rng, d, 3, 2)), {})]}
