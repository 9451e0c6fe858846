"""One exception in a batch: what serves the other members is kept, and only those that need it are computed again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import linalgx
from linalgx._core.loops import GROUP, replaced_members
from linalgx._kernels.select import prefer
from tests.operations.inputs import general

BATCHES = [(batch, False) for batch in [(), (0,), (3,), (700,), (20, 40)]]
BATCHES_LAST = [(batch, True) for batch in [(0,), (3,), (700,)]]


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("wanted", ["none", "one", "some", "all"])
@pytest.mark.parametrize(("batch", "batch_last"), BATCHES + BATCHES_LAST, ids=str)
def test_the_wanted_members_are_replaced(batch, wanted, dtype, batch_last, rng) -> None:
    flags = np.asarray(rng.random(batch) < {"none": 0, "one": 0, "some": 0.3, "all": 1}[wanted])
    if wanted == "one" and flags.size:
        flags.reshape(-1)[-1] = True
    A = general(rng, dtype, *batch, 6, 4)
    expected = np.where(flags[..., None, None], -A, A), np.where(flags[..., None], A[..., 0] + 1, 0)
    move = (lambda x: np.moveaxis(x, 0, -1)) if batch_last else lambda x: x

    def function(A):
        columns = A[:, 0] if batch_last else A[..., 0]
        return -A, columns + 1

    def run(flags, A):
        values = [A, jnp.zeros_like(function(A)[1])]
        return replaced_members(flags, function, [A], values, batch_last=batch_last)

    for f in (run, jax.jit(run)):
        for ours, right in zip(f(jnp.asarray(flags), jnp.asarray(move(A))), expected, strict=True):
            np.testing.assert_array_equal(ours, move(right))


def test_only_the_wanted_members_are_computed(rng) -> None:
    turns = []

    def function(A):
        jax.debug.callback(lambda A: turns.append(len(A)), A)
        return [-A]

    A = jnp.asarray(general(rng, "float32", 1000, 8, 8))
    jax.block_until_ready(replaced_members(jnp.arange(1000) == 7, function, [A], [A]))
    jax.effects_barrier()
    assert turns == [GROUP // 8]


@pytest.mark.parametrize("order", [1, 2], ids=["gradient", "second derivative"])
@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("n", [5, 8, 10])
def test_determinants_of_a_batch_with_singular_members(n, kernel, order, rng) -> None:
    """As of each by itself; matrices that are not singular keep every bit that they have without the others."""
    A = general(rng, "float64", 300, n, n)
    A[10, 0] = A[10, 1]
    A[211] = np.outer(A[211, 0], A[211, 1])
    A[299, 2] *= 1e-40

    def gradient(A):
        return jax.grad(lambda A: jnp.sum(linalgx.det(A)))(A)

    def derivative(A):
        return gradient(A) if order == 1 else jax.jvp(gradient, (A,), (jnp.sin(A),))[1]

    with prefer(kernel):
        together = jax.jit(derivative)(A)
        apart = jax.jit(derivative)(np.delete(A, (10, 211, 299), axis=0))
    np.testing.assert_array_equal(np.delete(together, (10, 211, 299), axis=0), apart)
    for i in (10, 211, 299):
        alone = derivative(A[i])
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-10 * max(np.abs(alone).max(), 1e-300))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("columns", [1, 12])
def test_least_squares_of_a_batch_with_members_of_lower_rank(columns, dtype, wide, rng) -> None:
    """By the normal equations (of one column), by factors, and by singular values in one batch: each as alone."""
    m, n = (16, 20) if wide else (20, 16)
    A, b = general(rng, dtype, 200, m, n), general(rng, dtype, 200, m, columns)
    bad = [7, 123, 199]
    A[7, :, 1] = A[7, :, 0]
    A[123] = 0
    A[199, 3] = A[199, 2] + 1e-7 * A[199, 3]

    def solve(A, b):
        return linalgx.lstsq(A, b)

    def gradients(A, b):
        return jax.grad(lambda A, b: jnp.sum(jnp.abs(solve(A, b).solution) ** 2), (0, 1))(A, b)

    together, derivatives = jax.jit(solve)(A, b), jax.jit(gradients)(A, b)
    others = np.delete(np.arange(200), bad)
    apart = jax.jit(solve)(A[others], b[others])
    # products with factors beside those for the equations may add up in another order
    np.testing.assert_allclose(together.solution[others], apart.solution, rtol=1e-11, atol=1e-12)
    for i in [*bad, 0, 198]:
        alone = solve(A[i], b[i])
        assert int(together.rank[i]) == int(alone.rank) == np.linalg.matrix_rank(A[i])
        cond = np.linalg.cond(A[i]) if i == 199 else 1e4
        bound = 1e-15 * cond * (1 + np.abs(alone.solution).max())
        np.testing.assert_allclose(together.solution[i], alone.solution, rtol=0, atol=bound)
        right = np.linalg.lstsq(A[i], b[i], rcond=None)[0]
        np.testing.assert_allclose(together.solution[i], right, rtol=0, atol=cond * bound if i == 199 else bound)
        for ours, its in zip(derivatives, gradients(A[i], b[i]), strict=True):
            np.testing.assert_allclose(ours[i], its, rtol=0, atol=1e-15 * cond * (1 + np.abs(its).max()))


def test_derivatives_of_a_batch_with_parallel_eigenvectors(rng) -> None:
    """LAPACK's are parallel at this matrix of rank one; its neighbours are not moved by a rounding error."""
    A = general(rng, "float64", 200, 6, 6)
    singular = np.outer(np.arange(1.0, 7), np.arange(6.0, 0, -1))

    def gradient(A):
        return jax.grad(lambda A: jnp.sum(jnp.real(linalgx.eig(A)[0] ** 2)))(A)

    B = A.copy()
    B[150] = singular
    ours, without = jax.jit(gradient)(B), jax.jit(gradient)(A)
    np.testing.assert_array_equal(np.delete(ours, 150, axis=0), np.delete(without, 150, axis=0))
    np.testing.assert_allclose(ours[150], 2 * singular.T, rtol=1e-11)  # the sum is tr A^2


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("exponent", [-1.5, -1.02, -0.96, 0.96, 1.02, 1.5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_gradients_where_the_determinant_leaves_the_range(dtype, exponent, n, kernel, rng) -> None:
    """Of A = 2^k B it is 2^(k (n - 1)) times that of B; 0 or infinity where that is out of the range."""
    B = general(rng, dtype, 3, n, n)
    limits = jnp.finfo(dtype)
    k = round(exponent * limits.maxexp / n)
    scale = np.array([2.0**k, 1, 2.0**k], B.real.dtype)[:, None, None]

    def gradient(A):
        return jax.grad(lambda A: jnp.sum(jnp.real(linalgx.det(A))))(A)

    with prefer(kernel):
        ours, of_B = np.asarray(jax.jit(gradient)(B * scale)), np.asarray(gradient(B))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = of_B * scale ** (n - 1)
    normal = np.isfinite(expected) & (np.abs(expected) >= limits.tiny)
    error = (
        np.abs(ours[normal] - expected[normal])
        / np.broadcast_to(np.abs(np.where(normal, expected, 0)).max(axis=(-2, -1), keepdims=True), ours.shape)[normal]
    )
    assert np.all(error <= 100 * n * limits.eps)
    assert np.all(np.abs(ours[np.abs(expected) < limits.tiny]) <= limits.tiny)
    assert not np.isfinite(ours[~np.isfinite(expected)]).any()


@pytest.mark.parametrize("batch_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("name", ["det", "slogdet", "inv"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_determinants_of_few_rows_with_exceptions(n, name, dtype, batch_last, rng) -> None:
    A = general(rng, dtype, 30, 50, n, n)
    exceptions = {(0, 3): 0, (7, 49): 1e-30, (12, 0): 1e30, (29, 49): np.nan}
    for place, factor in exceptions.items():
        A[place] *= np.float32(factor)
    function = getattr(linalgx, name)

    def run(A):
        if not batch_last:
            return jax.tree.leaves(function(A))
        last = jax.vmap(function, in_axes=-1, out_axes=-1)(np.moveaxis(A.reshape(-1, n, n), 0, -1))
        return [jnp.moveaxis(x, -1, 0).reshape(30, 50, *x.shape[:-1]) for x in jax.tree.leaves(last)]

    with prefer("batch_minor"):
        usual = np.isfinite(A) & (np.abs(A) < 1e20) & (np.abs(A) > 1e-20)
        ours, without = jax.jit(run)(A), jax.jit(run)(np.where(usual, A, 1))
    for i, (x, y) in enumerate(zip(ours, without, strict=True)):
        same = np.ones((30, 50), bool)
        for place in exceptions:
            same[place] = False
            alone = jax.tree.leaves(function(A[place]))[i]
            np.testing.assert_allclose(x[place], alone, rtol=1e-5)
        np.testing.assert_array_equal(x[same], y[same])


def _adjugates(A):
    return jax.grad(lambda A: jnp.sum(linalgx.det(A)))(A)


def _with_a_singular_member(rng, batch: int) -> np.ndarray:
    A = general(rng, "float64", batch, 8, 8)
    A[5, 0] = A[5, 1]
    return A


def _assert_as_in_a_program(found, A) -> None:
    expected = jax.jit(_adjugates)(A)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
@pytest.mark.parametrize("batch", [20, 600])
def test_on_several_devices(batch, axis_type, rng) -> None:
    """Large batches by shard_map, where one device alone has a loop, and calls LAPACK: several may wait for ever."""
    A = _with_a_singular_member(rng, batch)
    mesh = jax.make_mesh((2,), ("b",), axis_types=(axis_type,))
    mapped = jax.shard_map(_adjugates, mesh=mesh, in_specs=P("b"), out_specs=P("b"))
    with jax.set_mesh(mesh):
        found = jax.jit(mapped if batch > 100 else _adjugates)(jax.device_put(A, NamedSharding(mesh, P("b"))))
    # beside the program for one device, which calls LAPACK, too, each would wait for the other
    _assert_as_in_a_program(jax.block_until_ready(found), A)


@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda")], ids="-".join)
def test_exported_programs(platforms, rng) -> None:
    A = _with_a_singular_member(rng, 600)
    exported = jax.export.export(jax.jit(_adjugates), platforms=platforms)(jax.ShapeDtypeStruct(A.shape, A.dtype))
    _assert_as_in_a_program(exported.call(A), A)


def test_a_balanced_member_does_not_depend_on_its_neighbours(rng) -> None:
    A = general(rng, "float64", 40, 9, 9)
    A *= 10.0 ** rng.integers(-20, 20, (40, 9, 1))
    adjugate = jax.jit(jax.grad(lambda A: jnp.sum(linalgx.det(A))))
    np.testing.assert_array_equal(adjugate(A)[:5], adjugate(np.concatenate([A[:5], A[20:], A[:15]]))[:5])
