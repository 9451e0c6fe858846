"""What XLA makes of pipelines of small matrices: the batch stays on the last axis, and nothing is computed twice.

Changes of layout and of the number of operations are counted in the compiled program, so that an update of XLA that
brings back the recomputation of shared values, or a rule that moves the batch, is noticed.
"""

import re

import jax
import jax.numpy as jnp
import pytest

import linalgx
from linalgx._kernels.select import prefer

BATCH = 1009  # no other axis of these programs has this length


def _log_density(A, y):
    L = linalgx.cholesky(A)
    z = linalgx.solve_triangular(L, y, upper=False)
    return linalgx.vecdot(z, z) + linalgx.cholesky_logdet(L)


def _kalman(P, R):
    gain = linalgx.solve(linalgx.matmul(P, R), P)
    return linalgx.matmul(gain, P)


def _whitening(A, y):
    values, vectors = linalgx.eigh(A)
    return linalgx.matmul(vectors, linalgx.matmul(linalgx.matrix_transpose(vectors), y) / values)


PIPELINES = {"log density": (_log_density, "mv"), "Kalman step": (_kalman, "mm"), "whitening": (_whitening, "mv")}


# (pipeline, n, fusions, multiplications), of the value and of its gradient: what XLA of jax 0.10.2 makes of them, and a
# half more; a value that is computed again in every loop that reads it multiplies both
BOUNDS = [
    ("log density", 3, (15, 30), (38, 62)),
    ("log density", 6, (47, 140), (96, 239)),
    ("Kalman step", 3, (39, 38), (60, 80)),
    ("Kalman step", 6, (126, 87), (185, 261)),
]


def _inputs(kinds: str, n: int, axis: int) -> list[jax.Array]:
    shapes = [(n, n) if kind == "m" else (n,) for kind in kinds]
    return [jnp.ones((*shape, BATCH) if axis == -1 else (BATCH, *shape), jnp.float32) for shape in shapes]


def _compiled(function, args) -> str:
    with prefer("batch_minor"):
        return jax.jit(function).lower(*args).compile().as_text()


SHAPED = r"\w+\[([\d,]*)\]\{([\d,]*)\}"
MOVES = re.compile(rf"= {SHAPED} (?:transpose|copy)\(%?([\w.-]+)\)")
DEFINED = re.compile(rf"%([\w.-]+) = {SHAPED}")


def _batch_is_minor(dimensions: str, layout: str) -> bool | None:
    """Whether the batch is the axis along which memory runs; None if the array has no batch."""
    sizes = [int(size) for size in dimensions.split(",") if size]
    if BATCH not in sizes:
        return None
    order = [int(axis) for axis in layout.split(",") if sizes[int(axis)] > 1]
    return sizes[order[0]] == BATCH


def _conversions(program: str) -> tuple[int, int]:
    """How many instructions move the batch to the axis along which memory runs, and how many away from it."""
    there = away = 0
    for computation in program.split("\n\n"):
        minor = {name: _batch_is_minor(*shape) for name, *shape in DEFINED.findall(computation)}
        for dimensions, layout, operand in MOVES.findall(computation):
            before, after = minor.get(operand), _batch_is_minor(dimensions, layout)
            there += before is False and after is True
            away += before is True and after is False
    return there, away


@pytest.mark.optimized
@pytest.mark.parametrize("n", [2, 4, 6])
@pytest.mark.parametrize("name", PIPELINES)
def test_batch_last_is_never_converted(name: str, n: int) -> None:
    function, kinds = PIPELINES[name]
    args = _inputs(kinds, n, -1)
    assert _conversions(_compiled(jax.vmap(function, in_axes=-1, out_axes=-1), args)) == (0, 0)
    gradient = jax.vmap(jax.grad(lambda *x: jnp.sum(function(*x))), in_axes=-1, out_axes=-1)
    assert _conversions(_compiled(gradient, args)) == (0, 0)


@pytest.mark.optimized
@pytest.mark.parametrize(("name", "most"), [("log density", 21), ("Kalman step", 6), ("whitening", 12)])
def test_batch_first_is_converted_at_the_ends_alone(name: str, most: int) -> None:
    function, kinds = PIPELINES[name]
    there, away = _conversions(_compiled(jax.vmap(function), _inputs(kinds, 4, 0)))
    # where the inputs are read, which may be in several loops: as often as with jax 0.10.2, and a half more
    assert 1 <= there <= most
    # and not before the output is written
    assert away <= 1


PRODUCTS = {
    "matmul": linalgx.matmul,
    "vecdot": linalgx.vecdot,
    "matrix_power": lambda A, _: linalgx.matrix_power(A, 5),
    "pinv": lambda A, _: linalgx.pinv(A),
    "lstsq": lambda A, B: linalgx.lstsq(A, B).solution,
    "ormqr": lambda A, B: linalgx.ormqr(A, A[..., 0], B),
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_the_batch_in_front_are_not_those_of_xla(name: str) -> None:
    args = _inputs("mm", 4, 0)
    gradient = jax.grad(lambda *x: jnp.sum(PRODUCTS[name](*x) ** 2))
    assert " dot(" in jax.jit(jnp.matmul).lower(*args).compile().as_text()
    for function in (PRODUCTS[name], gradient):
        assert " dot(" not in _compiled(function, args)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("name", "n", "kinds", "mapped"),
    [
        ("det", 2, "m", False),
        ("det", 3, "m", False),
        ("slogdet", 2, "m", False),
        ("slogdet", 2, "m", True),
        ("matmul", 3, "mm", True),
        ("matmul", 6, "mm", True),
        ("matmul", 6, "mv", True),
        ("matrix_transpose", 4, "m", True),
    ],
)
def test_what_costs_less_than_a_conversion_leaves_the_batch_in_front(
    name: str, n: int, kinds: str, mapped: bool
) -> None:
    function = lambda *args: jnp.sum(jax.tree.leaves(getattr(linalgx, name)(*args))[-1] ** 2)
    for each in (function, jax.grad(function)):
        each = jax.vmap(each) if mapped else each
        assert _conversions(_compiled(each, _inputs(kinds, n, 0))) == (0, 0)


@pytest.mark.optimized
@pytest.mark.parametrize(("name", "n", "of_value", "of_gradient"), BOUNDS)
def test_nothing_is_computed_twice(name: str, n: int, of_value: tuple[int, int], of_gradient: tuple[int, int]) -> None:
    function, kinds = PIPELINES[name]
    gradient = jax.grad(lambda *x: jnp.sum(function(*x)))
    for member, (fusions, multiplications) in ((function, of_value), (gradient, of_gradient)):
        program = _compiled(jax.vmap(member, in_axes=-1, out_axes=-1), _inputs(kinds, n, -1))
        assert program.count(" fusion(") <= fusions
        assert program.count(" multiply(") <= multiplications


def test_the_gradient_of_a_determinant_of_two_rows_is_one_loop_over_the_matrix() -> None:
    program = _compiled(jax.vmap(jax.grad(lambda A: linalgx.det(A) ** 2)), _inputs("m", 2, 0))
    assert "concatenate(" not in program
    assert len(re.findall(r" = f32\S+ fusion\(", program)) == 2  # the determinant, and the gradient


@pytest.mark.optimized
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_norm_of_few_numbers_is_one_loop(n: int, axis: int) -> None:
    program = _compiled(jax.vmap(linalgx.matrix_norm, in_axes=axis), _inputs("m", n, axis))
    assert program.count(" fusion(") == 1
    assert " reduce(" not in program


@pytest.mark.optimized
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_a_density_does_not_put_its_factor_together(n: int, axis: int) -> None:
    function, kinds = PIPELINES["log density"]
    program = _compiled(jax.vmap(function, in_axes=axis), _inputs(kinds, n, axis))
    assert "concatenate(" not in program
    made = [line for line in program.splitlines() if f"[{n},{n},{BATCH}]" in line.split("(")[0]]
    # the argument, where the batch is last or is moved there
    assert all("parameter(" in line or " transpose(" in line or "copy(" in line for line in made)


@pytest.mark.parametrize("nested", [lambda f: f, jax.jit, lambda f: lambda *x: f(*(2 * a for a in x))], ids=range(3))
@pytest.mark.parametrize(
    ("name", "kinds", "moves"),
    [("solve_triangular", "mv", 0), ("solve_triangular", "mm", 2), ("cholesky", "m", 0), ("cholesky_inverse", "m", 1)],
)
def test_matrices_are_moved_in_memory_for_those_who_read_them_several_times(name, kinds, moves, nested):
    options = {"upper": False} if name == "solve_triangular" else {}
    function = nested(jax.vmap(lambda *args: getattr(linalgx, name)(*args, **options)))
    with prefer("batch_minor"):
        program = str(jax.make_jaxpr(function)(*_inputs(kinds, 5, 0)))
    assert program.count("= materialise[") == moves
