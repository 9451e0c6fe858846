"""One exception in a batch: what serves the other members is kept, and only those that need it are computed again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.loops import GROUP, replaced_members
from linalgx._kernels.select import prefer
from tests.operations.inputs import general


@pytest.mark.parametrize("batch_last", [False, True])
@pytest.mark.parametrize("wanted", ["none", "one", "some", "all"])
@pytest.mark.parametrize("batch", [(), (0,), (3,), (700,), (20, 40)], ids=str)
def test_the_wanted_members_are_replaced(batch, wanted, batch_last, rng) -> None:
    if batch_last and len(batch) != 1:
        pytest.skip("the batch is one axis")
    flags = rng.random(batch) < {"none": 0, "one": 0, "some": 0.3, "all": 1}[wanted]
    if wanted == "one" and flags.size:
        flags.flat[-1] = True
    A = general(rng, "float32", *batch, 6, 4)
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
    sizes = []

    def function(A):
        sizes.append(len(A))
        return [-A]

    A = jnp.asarray(general(rng, "float32", 1000, 8, 8))
    replaced_members(jnp.arange(1000) == 7, function, [A], [A])
    assert set(sizes) == {GROUP // 8}


@pytest.mark.parametrize("order", [1, 2], ids=["gradient", "second derivative"])
@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("n", [5, 8, 10])
def test_determinants_of_a_batch_with_singular_members(n, kernel, order, rng) -> None:
    """As of each by itself; matrices that are not singular keep every bit that they have without the others."""
    A = general(rng, "float64", 300, n, n)
    A[10, 0] = A[10, 1]
    A[211] = np.outer(A[211, 0], A[211, 1])
    A[299, :, 2] *= 1e-40

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


@pytest.mark.parametrize("columns", [1, 12])
def test_least_squares_of_a_batch_with_members_of_lower_rank(columns, rng) -> None:
    A, b = general(rng, "float64", 400, 15, 9), general(rng, "float64", 400, 15, columns)
    A[7, :, 1] = A[7, :, 0]
    A[123] = 0
    A[399, :, 3] = A[399, :, 2] + 1e-7 * A[399, :, 3]
    solution, _, rank, _ = jax.jit(linalgx.lstsq)(A, b)
    for i in range(400):
        right, _, rank_i, _ = np.linalg.lstsq(A[i], b[i], rcond=None)
        assert int(rank[i]) == rank_i
        # the last one is close to a matrix of lower rank: A X has errors of eps cond |b|
        of, bound = (A[i], 1e-15 * np.linalg.cond(A[i]) * np.abs(b[i]).max()) if i == 399 else (np.eye(9), 1e-11)
        np.testing.assert_allclose(of @ solution[i], of @ right, rtol=0, atol=bound)
    np.testing.assert_allclose(linalgx.pinv(A)[np.array([7, 123])], np.linalg.pinv(A[[7, 123]]), rtol=0, atol=1e-12)


def test_derivatives_of_a_batch_with_parallel_eigenvectors(rng) -> None:
    """Those of LAPACK are parallel at a matrix of rank one; its neighbours are not moved by a rounding error."""
    A = general(rng, "float64", 200, 10, 10)
    singular = np.outer(A[0, 0], A[0, 1])

    def gradient(A):
        return jax.grad(lambda A: jnp.sum(jnp.abs(linalgx.eig(A)[0]) ** 4))(A)

    B = A.copy()
    B[150] = singular
    ours, without = jax.jit(gradient)(B), jax.jit(gradient)(A)
    np.testing.assert_array_equal(np.delete(ours, 150, axis=0), np.delete(without, 150, axis=0))
    np.testing.assert_allclose(ours[150], gradient(singular), rtol=1e-9)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("exponent", [-1.01, -0.99, 0.99, 1.01])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_gradients_where_the_determinant_leaves_the_range(dtype, exponent, n, rng) -> None:
    """Of A = 2^k B it is 2^(k (n - 1)) times that of B: rounded once, to 0 or infinity where it must be."""
    B = general(rng, dtype, 3, n, n)
    k = round(exponent * jnp.finfo(dtype).maxexp / n)
    scale = np.array([2.0**k, 1, 2.0**k], B.real.dtype)[:, None, None]

    def gradient(A):
        return jax.grad(lambda A: jnp.sum(jnp.real(linalgx.det(A))))(A)

    ours, of_B = jax.jit(gradient)(B * scale), gradient(B)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.asarray(of_B) * scale ** (n - 1)
    size = np.abs(expected).max(axis=(-2, -1), keepdims=True)
    error = np.abs(ours - expected) / np.where(np.isfinite(size), size, 1)
    assert np.all(np.isfinite(size))
    assert np.all(error <= 50 * n * jnp.finfo(dtype).maxexp * jnp.finfo(dtype).eps)
