"""Kernels taken apart into the entries of a matrix, as a GPU runs them: the same numbers as from arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import linalgx
from benchmarks import crossovers
from linalgx._core.entrywise import LONG, MANY, entry_by_entry, entrywise, joined
from linalgx._core.loops import many_threads, materialise
from linalgx._core.operation import house_numerics
from linalgx._kernels import select
from linalgx._kernels.select import prefer
from tests.operations import FIRST_CASES
from tests.operations.case import Case, assert_close, tolerance

BATCH = MANY + 88
OPTIONS = {
    "solve_triangular": {"lower": True},
    "lu_factor": {"pivot": True},
    "lu_solve": {"left": True, "adjoint": False},
    "svd": {"full_matrices": True},
    "householder_qr": {"full": True},
}
KERNELS = [name for name in select._KERNELS if name not in ("solve", "matmul", "matrix_exp")]


def spoiled(x: np.ndarray) -> np.ndarray:
    """The batch with members that are zero, of rank one, not finite, and near both ends of the range."""
    x = x.copy()
    numbers = np.finfo(x.dtype)
    x[0] = 0
    x[1] = 1
    x[2, 0] = np.nan
    x[3, 0] = np.inf
    x[4] *= numbers.max / 1e4
    x[5] *= numbers.tiny
    return x


# without optimisations XLA's older emitters for the CPU make loops of many vectors that write into each other
@pytest.mark.optimized
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
# compiling takes the time: one order stands for the others in every run
@pytest.mark.parametrize("n", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 6))])
@pytest.mark.parametrize("name", KERNELS)
def test_entries_and_arrays_give_the_same(name, n, dtype, rng):
    members = crossovers.OPERATIONS[name].inputs(rng, BATCH, n, dtype)
    args = [jnp.asarray(np.moveaxis(x, 0, -1)) for x in (spoiled(members[0]), *members[1:])]
    kernel = jax.jit(lambda *args: select._KERNELS[name](*args, **OPTIONS.get(name, {})))
    with house_numerics():
        expected = jax.tree.leaves(kernel(*args))
        with many_threads(True):
            found = jax.tree.leaves(kernel(*args))
    eps = float(jnp.finfo(dtype).eps)
    for x, y in zip(found, expected, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape
        np.testing.assert_array_equal(np.isfinite(x[..., :6]), np.isfinite(y[..., :6]))
        # the same formulas in the same order, but for products and sums that the compiler contracts; the rest is
        # what a matrix of the batch amplifies: at most a condition of 1e4 or so
        scale = np.abs(y[..., 6:]).max(tuple(range(y.ndim - 1)), initial=1, keepdims=True)
        assert np.all(np.abs(x[..., 6:] - y[..., 6:]) <= 1e5 * eps * scale)


# for a GPU: on a CPU it is tests/kernels/test_agreement.py once more
@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("case", [case for case in FIRST_CASES if case.batchable], ids=str)
def test_public_functions_on_a_large_batch(case: Case, rng) -> None:
    """On a GPU these are the entries, on a CPU the arrays."""
    # cuSOLVER compares the moduli of complex numbers in another norm than LAPACK, and has other pivots
    dtype = "float64" if case.function.startswith("lu") else case.dtypes[-1]
    args = tuple(jnp.asarray(x) for x in case.arrays(rng, dtype, (BATCH,)))
    mapped = jax.vmap(lambda *x: case.viewed(*x))
    with prefer("batch_minor"):
        ours = jax.jit(mapped)(*args)
    with prefer("lapack"):
        theirs = jax.jit(mapped)(*args)
    # the worst of many matrices
    assert_close(ours, theirs, 100 * tolerance("float64", 4, case.condition), str(case))


def instructions(function, *args) -> list[str]:
    """The steps of what a GPU would run, those of loops and calls, too."""
    with prefer("batch_minor"):
        lowered = jax.jit(function).trace(*args).lower(lowering_platforms=("cuda",))
    return lowered.as_text().splitlines()


@pytest.mark.parametrize("name", ["lu_factor", "cholesky", "qr", "eigh"])
def test_the_program_of_a_gpu_has_vectors_only(name):
    n = 4
    call = crossovers.OPERATIONS[name]
    A = jnp.ones((n, n, BATCH), jnp.float32)
    lines = instructions(jax.vmap(lambda A: call.function(A), in_axes=-1, out_axes=-1), A)
    arithmetic = [line for line in lines if any(f"stablehlo.{op} " in line for op in ("multiply", "subtract", "sqrt"))]
    assert arithmetic
    assert all(f"tensor<{BATCH}x" in line for line in arithmetic)
    # the batch is worked on at once: the only loop is that of the rotations
    assert sum("stablehlo.while" in line for line in lines) == (name == "eigh")


@pytest.mark.parametrize(("n", "batch", "dtype"), [(3, MANY - 1, "float32"), (8, MANY, "float64")])
def test_small_batches_and_large_matrices_stay_arrays(n, batch, dtype):
    A = jnp.ones((n, n, batch), dtype)
    lines = instructions(jax.vmap(lambda A: crossovers.OPERATIONS["eigh"].function(A), in_axes=-1, out_axes=-1), A)
    shape = f"tensor<{n}x{n}x{batch}xf{8 * A.dtype.itemsize}>"
    assert any("stablehlo.multiply" in line and shape in line for line in lines)


def test_a_symbolic_batch_stays_an_array():
    (b,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((b, 3, 3), jnp.float32)
    with prefer("batch_minor"):
        program = jax.export.export(jax.jit(jax.vmap(linalgx.inv)), platforms=("cuda",))(shape).mlir_module()
    assert "stablehlo.while" not in program
    assert any("stablehlo.multiply" in line and "tensor<3x?xf32>" in line for line in program.splitlines())


@pytest.mark.parametrize("name", ["inv", "eigh"])
def test_the_program_of_a_gpu_inside_shard_map(name):
    call = crossovers.OPERATIONS[name]
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    mapped = jax.vmap(lambda A: jax.tree.leaves(call.function(A))[-1], in_axes=-1, out_axes=-1)
    sharded = jax.shard_map(mapped, mesh=mesh, in_specs=P(None, None, "b"), out_specs=P(None, None, "b"))
    lines = instructions(sharded, jnp.ones((3, 3, 2 * MANY)))
    arithmetic = [line for line in lines if "stablehlo.multiply " in line]
    assert arithmetic
    assert all(f"tensor<{MANY}x" in line for line in arithmetic)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["cholesky", "solve", "det", "svd", "matrix_exp"])
def test_explicit_meshes_have_no_kernels(name, platform):
    call = crossovers.OPERATIONS[name]
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
    members = call.inputs(np.random.default_rng(0), MANY, 3, "float32")
    with jax.set_mesh(mesh), prefer("batch_minor"):
        args = [jax.device_put(x, NamedSharding(mesh, P("b"))) for x in members]
        lowered = jax.jit(jax.vmap(lambda *args: call.function(*args))).trace(*args)
        lowered.lower(lowering_platforms=(platform,))


# --- the steps of a program


def evaluated(function, *args):
    """The function from entries, and as it is."""
    with many_threads(True):
        return jax.jit(entrywise(function))(*args), function(*args)


def assert_same(function, *args):
    found, expected = evaluated(function, *args)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(entry_by_entry(function))(*args), expected)


@pytest.fixture
def x(rng) -> jax.Array:
    return jnp.asarray(rng.integers(-9, 9, (2, 3, BATCH)).astype(float))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(3, 2, BATCH).transpose(1, 0, 2),
        lambda x: jnp.flip(x, 0)[:, ::2],
        lambda x: jnp.concatenate([x, x * x], axis=1),
        lambda x: jnp.stack([x[0], x[1]], axis=1),
        lambda x: jnp.pad(x, ((1, 0), (0, 2), (0, 0)), constant_values=7.0),
        lambda x: x + jnp.arange(3.0)[None, :, None] * jnp.eye(2, 3)[:, :, None],
        lambda x: jnp.broadcast_to(x[:, :1], x.shape) - jnp.zeros_like(x[:1]),
        lambda x: (jnp.sum(x, 0), jnp.max(x, (0, 1)), jnp.all(x > 0, 1), jnp.prod(x, 1)),
        lambda x: (jnp.any(x > 8), jnp.sum(x, (1, 2)), jnp.max(x)),
        lambda x: jnp.where(jnp.max(x) > 0, x, -x),
        lambda x: jnp.clip(x, -1.0, 1.0) ** 2,
        lambda x: (jnp.full((2, BATCH), 3.0), jnp.float64(2.0), x[0, 0]),
        lambda x: list(jnp.unstack(x, axis=1)),
        lambda x: lax.cond(jnp.any(x > 8), lambda x: x + 1, lambda x: x, x),
        lambda x: lax.while_loop(lambda s: jnp.any(s[0] < 40) & (s[1] < 50), lambda s: (s[0] + 1, s[1] + 1), (x, 0)),
        lambda x: lax.fori_loop(0, 3, lambda i, s: s * 2 + i.astype(float), x),
        lambda x: jnp.sort(x, axis=0),
        lambda x: lax.while_loop(lambda s: jnp.any(s < 0), lambda s: jnp.sort(s, axis=0) + 1, x),
        lambda x: lax.pad(x, 0.0, ((1, 0, 1), (-1, 0, 0), (0, 0, 0))),
        lambda x: lax.reduce_and(x.astype(int), (0,)) | lax.reduce_or(x.astype(int), (0,)),
        lambda x: jnp.flip(x, 2)[:, :, :1],
        lambda x: x + jnp.arange(float(BATCH))[None, None] + lax.broadcasted_iota(float, (1, 3, BATCH), 1),
        lambda x: (jnp.sum(x[:, :0], 1), x[:0]),
        lambda x: jnp.roll(x, 1, axis=2),
        lambda x: jax.nn.relu(jnp.sort(x, axis=1)),
    ],
    ids=lambda function: "",
)
def test_steps(function, x):
    assert_same(function, x)


@pytest.mark.parametrize(
    "function", [lambda x: jnp.moveaxis(x, 2, 0), lambda x: x.view(np.uint32), lambda x: x[..., None]]
)
def test_a_batch_that_moves_is_refused(function, x):
    with many_threads(True), pytest.raises(ValueError, match="moves the batch"):
        jax.jit(entrywise(function))(x)


def test_a_long_kernel_ends_where_a_value_is_materialised(x):
    def function(x, *, times):
        for _ in range(times):
            x = materialise(x + 1)
        return x

    def barriers(times):
        with many_threads(True):
            return str(jax.make_jaxpr(entrywise(lambda x: function(x, times=times)))(x)).count("optimization_barrier")

    assert barriers(LONG // x[..., 0].size - 1) == 1
    assert barriers(LONG // x[..., 0].size + 1) == 2


def test_a_cpu_takes_an_entry_from_where_it_was_computed(x):
    def by_way_of_a_matrix(put_together):
        def function(x):
            A = put_together([[x[i, j] ** 2 for j in range(3)] for i in range(2)])
            return entry_by_entry(lambda A: A[0, 0] + A[1, 2])(A)

        return jax.jit(function).lower(x).compile()

    def stacked(rows):
        return jnp.stack([jnp.stack(row) for row in rows])

    for put_together, is_there in ((joined, False), (stacked, True)):
        program = by_way_of_a_matrix(put_together)
        np.testing.assert_array_equal(program(x), x[0, 0] ** 2 + x[1, 2] ** 2)
        assert ("concatenate(" in program.as_text()) is is_there


def test_a_large_value_of_which_a_cpu_takes_entries_is_computed_once(x):
    def function(x):
        y = materialise(jnp.sum(x, axis=(0, 1)))
        return y * y + jnp.sin(y)

    program = jax.jit(entry_by_entry(function)).lower(x).compile()
    assert " conditional(" in program.as_text()
    np.testing.assert_array_equal(program(x), jax.jit(function)(x))
