"""What the table cannot say of products: integers, the order of a chain, powers at singular and at strange input."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx.products import _cheapest_splits
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general, well_conditioned


@pytest.mark.parametrize("kind", ["int32", "bool"])
def test_integers_stay(kind, rng) -> None:
    a, b = (jnp.asarray(rng.integers(0, 2, (3, 3)).astype(kind)) for _ in range(2))
    pairs = {
        "matmul": (linalgx.matmul(a, b), jnp.matmul(a, b)),
        "vecdot": (linalgx.vecdot(a, b), jnp.vecdot(a, b)),
        "outer": (linalgx.outer(a[0], b[0]), jnp.outer(a[0], b[0])),
        "tensordot": (linalgx.tensordot(a, b, axes=1), jnp.tensordot(a, b, axes=1)),
        "diagonal": (linalgx.diagonal(a), jnp.diagonal(a)),
        "trace": (linalgx.trace(a), jnp.trace(a)),
        "matrix_transpose": (linalgx.matrix_transpose(a), a.T),
        "multi_dot": (linalgx.multi_dot([a, b, a]), a @ b @ a),
    }
    if kind == "int32":
        pairs["cross"] = (linalgx.cross(a, b), jnp.cross(a, b))
        pairs["matrix_power"] = (linalgx.matrix_power(a, 5), a @ a @ a @ a @ a)
    for name, (ours, theirs) in pairs.items():
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_vander_of_booleans_counts() -> None:
    np.testing.assert_array_equal(linalgx.vander(jnp.array([True, False]), N=3), [[1, 1, 1], [1, 0, 0]])


def test_preferred_element_type() -> None:
    a = jnp.full((2, 2), 256.0, jnp.bfloat16)
    assert linalgx.matmul(a, a).dtype == jnp.bfloat16
    for function in (linalgx.matmul, linalgx.vecdot, linalgx.tensordot):
        assert function(a, a, preferred_element_type=jnp.float32).dtype == jnp.float32
    assert linalgx.trace(a, dtype="float32").dtype == jnp.float32


@pytest.mark.parametrize("axis", [-2, 0], ids=str)
def test_products_along_any_axis(axis, rng) -> None:
    x, y = general(rng, "complex128", 3, 4), general(rng, "complex128", 3, 1)
    cross = np.cross(*np.broadcast_arrays(x, y), axis=0)
    assert_close(linalgx.cross(jnp.asarray(x), jnp.asarray(y), axis=axis), cross, tolerance("float64", 3))
    assert_close(linalgx.vecdot(x, y, axis=axis), np.sum(x.conj() * y, axis=0), tolerance("float64", 3))


def _cost(shapes, order) -> int:
    """Multiplications that a chain of products takes if they are made in the given order of their positions."""
    chain, cost = [(s[-2], s[-1]) for s in shapes], 0
    joints = list(range(len(chain) - 1))
    for joint in order:
        i = joints.index(joint)
        (m, k), (_, n) = chain[i], chain[i + 1]
        cost += m * k * n
        chain[i : i + 2] = [(m, n)]
        joints.remove(joint)
    return cost


def _planned(shapes) -> list[int]:
    split = _cheapest_splits(shapes)

    def joints(i: int, j: int) -> list[int]:
        return [] if i == j else [*joints(i, split[i, j]), *joints(split[i, j] + 1, j), split[i, j]]

    return joints(0, len(shapes) - 1)


def test_the_cheapest_order_of_a_chain(rng) -> None:
    for _ in range(20):
        sizes = [int(k) for k in rng.integers(1, 30, 6)]
        shapes = list(itertools.pairwise(sizes))
        cheapest = min(_cost(shapes, order) for order in itertools.permutations(range(len(shapes) - 1)))
        assert _cost(shapes, _planned(shapes)) == cheapest


def test_a_batch_counts_in_the_order_of_a_chain() -> None:
    # one matrix, one matrix, many columns: without the batch the right product comes first
    shapes = [(4, 4), (4, 4), (1000, 4, 2)]
    assert _planned([s[-2:] for s in shapes]) == [1, 0]
    assert _planned(shapes) == [0, 1]


def test_multi_dot_broadcasts_batches(rng) -> None:
    a, b, c = general(rng, "float64", 2, 1, 3, 4), general(rng, "float64", 5, 4, 2), general(rng, "float64", 2)
    assert_close(linalgx.multi_dot((a, b, c)), a @ b @ c, tolerance("float64", 4))
    assert linalgx.multi_dot((a, b, c)).shape == (2, 5, 3)


@pytest.mark.parametrize("n", [2, 5])
def test_vander_has_all_derivatives_at_zero(n) -> None:
    x = jnp.array([0.0, 2.0])
    f = lambda x: linalgx.vander(x, N=n)[..., n - 1].sum()
    np.testing.assert_allclose(jax.grad(f)(x), (n - 1) * x ** (n - 2))
    np.testing.assert_allclose(jnp.diagonal(jax.hessian(f)(x)), (n - 1) * (n - 2) * x ** max(n - 3, 0))


def test_vander_forms_no_power_that_is_not_asked_for() -> None:
    x = jnp.array([1e30], jnp.float32)
    np.testing.assert_allclose(linalgx.vander(x, N=2), [[1, 1e30]], rtol=tolerance("float32", 1))
    np.testing.assert_allclose(jax.grad(lambda x: linalgx.vander(x, N=2).sum())(x), [1.0])


def test_zeroth_power_is_the_identity_whatever_comes() -> None:
    for a in (jnp.full((2, 2), jnp.nan), jnp.zeros((2, 2)), jnp.ones((2, 2), int)):
        np.testing.assert_array_equal(linalgx.matrix_power(a, 0), np.eye(2))
        assert linalgx.matrix_power(a, 0).dtype == a.dtype
    assert jnp.all(jax.grad(lambda a: linalgx.matrix_power(a, 0).sum())(jnp.full((2, 2), jnp.nan)) == 0)


def test_negative_power_of_a_singular_member_is_nan_there_alone(rng) -> None:
    a = well_conditioned(rng, "float64", 3, 3)
    batch = jnp.asarray(np.stack([a, np.zeros((3, 3)), np.full((3, 3), np.nan)]))
    out = linalgx.matrix_power(batch, -3)
    assert_close(out[0], np.linalg.matrix_power(a, -3), tolerance("float64", 3, 100))
    assert jnp.all(jnp.isnan(out[1:]))
    gradient = jax.grad(lambda x: linalgx.matrix_power(x, -3)[0].sum())(batch)
    assert jnp.all(jnp.isfinite(gradient[0]))


def test_gradient_of_a_power(rng) -> None:
    a, c = (jnp.asarray(general(rng, "float64", 3, 3)) for _ in range(2))
    gradient = jax.grad(lambda a: jnp.sum(c * linalgx.matrix_power(a, 5)))(a)
    powers = [np.linalg.matrix_power(a.T, k) for k in range(5)]
    assert_close(gradient, sum(powers[k] @ c @ powers[4 - k] for k in range(5)), tolerance("float64", 3, 10))


def test_torch_agrees(rng) -> None:
    torch = pytest.importorskip("torch")
    a, b, c = general(rng, "complex128", 3, 4), general(rng, "complex128", 4, 2), general(rng, "complex128", 2, 3)
    x, y = general(rng, "complex128", 5, 3), general(rng, "complex128", 5, 3)
    t = torch.tensor
    for ours, theirs in (
        (linalgx.multi_dot([a, b, c]), torch.linalg.multi_dot([t(a), t(b), t(c)])),
        (linalgx.vander(jnp.asarray(x), N=4), torch.linalg.vander(t(x), N=4)),
        (linalgx.vecdot(x, y), torch.linalg.vecdot(t(x), t(y))),
        (linalgx.cross(x, y), torch.linalg.cross(t(x), t(y))),
        (linalgx.diagonal(a, offset=1), torch.linalg.diagonal(t(a), offset=1)),
        (linalgx.matrix_power(a[:, :3], 6), torch.linalg.matrix_power(t(a[:, :3].copy()), 6)),
    ):
        assert_close(ours, theirs.numpy(), tolerance("float64", 4, 10))
