"""Linear systems where they are hard: singular members, vmap over one side, several right-hand sides, many at once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.matrix import after
from tests.operations.case import tolerance
from tests.operations.inputs import general, well_conditioned


def _with_bad_members(rng, dtype="float64"):
    A = np.stack([well_conditioned(rng, dtype, 3, 3) for _ in range(4)])
    A[1] = np.diag([1, 0, 2])
    A[2] = np.ones((3, 3))
    A[3, 1, 1] = np.nan
    return jnp.asarray(A)


def _bad(X):
    return jnp.isnan(X).any(axis=(-2, -1)).tolist()


@pytest.mark.parametrize("left", [True, False])
def test_singular_members_alone_fail(left, rng) -> None:
    A = _with_bad_members(rng)
    result, info = linalgx.solve_ex(A, jnp.eye(3), left=left)
    assert info.tolist() == [0, 2, 2, 0]
    assert _bad(result) == [False, True, True, True]
    np.testing.assert_allclose(result[0], np.linalg.inv(A[0]), atol=tolerance("float64", 3, 10))
    # a right-hand side in the range of a singular matrix has solutions, but not one
    assert _bad(linalgx.solve(A, jnp.zeros((3, 1)))) == [False, True, True, True]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_of_a_singular_member_nothing_is_left(adjoint, left, dtype, rng) -> None:
    n = 12
    A = np.stack([well_conditioned(rng, dtype, n, n) for _ in range(3)])
    A[1, :, 0] = 0
    A[2, -1] = A[2, 0]
    LU, pivots = linalgx.lu_factor(A)
    for member, row in ((1, 0), (2, n - 1)):  # an exact zero, which rounding may have missed
        LU = LU.at[member, row, row].set(0)
    B = general(rng, dtype, n, n)
    X = linalgx.lu_solve(LU, pivots, B, left=left, adjoint=adjoint)
    assert jnp.isnan(X[1:].real).all()
    op = A[0].conj().T if adjoint else A[0]
    np.testing.assert_allclose(op @ X[0] if left else X[0] @ op, B, atol=tolerance(dtype, n, 10))


def test_singular_members_alone_have_no_inverse(rng) -> None:
    A = _with_bad_members(rng)
    inverse, info = linalgx.inv_ex(A)
    assert info.tolist() == [0, 2, 2, 0]
    assert _bad(inverse) == [False, True, True, True]
    gradient = jax.grad(lambda a: jnp.sum(jnp.nan_to_num(linalgx.inv(a))))(A)
    X = np.linalg.inv(A[0])
    np.testing.assert_allclose(gradient[0], -X.T @ np.ones((3, 3)) @ X.T, atol=tolerance("float64", 3, 10))


def test_gradient_of_a_solution_with_a_bad_member(rng) -> None:
    A = _with_bad_members(rng)
    b = jnp.ones((4, 3, 1))
    loss = lambda a, b: jnp.sum(jnp.where(jnp.isnan(linalgx.solve(a, b)), 0, linalgx.solve(a, b)))
    of_A, of_b = jax.grad(loss, (0, 1))(A, b)
    alone_A, alone_b = jax.grad(loss, (0, 1))(A[:1], b[:1])
    np.testing.assert_allclose(of_A[:1], alone_A, atol=tolerance("float64", 3, 10))
    np.testing.assert_allclose(of_b[:1], alone_b, atol=tolerance("float64", 3, 10))
    assert _bad(of_A) == [False, True, True, True]


def test_nan_in_one_right_hand_side_leaves_the_gradient_of_the_others(rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    B = jnp.ones((3, 2)).at[0, 1].set(jnp.nan)
    gradient = jax.grad(lambda b: jnp.sum(linalgx.solve(A, b)[:, 0]))(B)
    np.testing.assert_allclose(gradient[:, 0], np.linalg.inv(A).T.sum(axis=1), atol=tolerance("float64", 3, 10))
    np.testing.assert_array_equal(gradient[:, 1], 0)


def test_after_is_the_second_argument() -> None:
    X = jnp.array([1.0, jnp.inf, jnp.nan, 0.0])
    Y = jnp.array([1.0, 2.0, 3.0, jnp.inf])
    np.testing.assert_array_equal(after(X, Y), Y)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(after(x, Y)))(X), 0)


@pytest.mark.optimized
def test_a_is_factored_once_however_often_it_is_differentiated(rng) -> None:
    A, b = jnp.asarray(well_conditioned(rng, "float64", 4, 4)), jnp.ones(4)
    gradient = jax.grad(lambda a: jnp.sum(linalgx.solve(a, b) ** 2))
    along = lambda a: jax.jvp(gradient, (a,), (jnp.ones((4, 4)),))[1]
    for f in (gradient, along):
        assert str(jax.jit(f).lower(A).compile().as_text()).count("getrf") <= 1


def _is_copied_after_its_last_solve(f, *args) -> bool:
    """Whether the compiled program does anything with what LAPACK gives last."""
    text = jax.jit(f).lower(*args).compile().as_text()
    lines = text[text.index("ENTRY") :].splitlines()
    last = [line for line in lines if 'trsm_ffi"' in line][-1]
    name = re.search(r"(%[\w.-]+) =", last)[1]
    users = [line for line in lines if re.search(re.escape(name) + r"[,)]", line)]
    return not all("ROOT" in line and " tuple(" in line for line in users)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how LAPACK is called")
@pytest.mark.optimized
def test_results_of_lapack_lie_in_memory_as_they_are_to(rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 24, 24))
    B = jnp.asarray(general(rng, "float64", 24, 24))
    assert not _is_copied_after_its_last_solve(lambda A, B: linalgx.solve_triangular(A, B, upper=True), A, B)
    assert not _is_copied_after_its_last_solve(lambda A, B: linalgx.cholesky_solve(B, A), A, B)
    assert not _is_copied_after_its_last_solve(linalgx.solve, A, B)
    assert not _is_copied_after_its_last_solve(linalgx.inv, A)
    assert not _is_copied_after_its_last_solve(jax.grad(lambda A: linalgx.slogdet(A).logabsdet), A)
    assert _is_copied_after_its_last_solve(lambda A: linalgx.inv(A).T, A)


def test_b_alone_is_batched_by_vmap(rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    B = jnp.asarray(general(rng, "float64", 5, 3))
    together = jax.vmap(lambda b: linalgx.solve(A, b))(B)
    np.testing.assert_allclose(together, np.linalg.solve(A, B.T).T, atol=tolerance("float64", 3, 10))


def test_only_one_axis_makes_a_vector(rng) -> None:
    A = jnp.asarray(np.stack([well_conditioned(rng, "float64", 3, 3)] * 3))
    B = jnp.asarray(general(rng, "float64", 3, 3))
    np.testing.assert_allclose(linalgx.solve(A, B), np.linalg.solve(A, B), atol=tolerance("float64", 3, 10))
    np.testing.assert_allclose(linalgx.solve(A, B[0]), np.linalg.solve(A, B[0]), atol=tolerance("float64", 3, 10))


def test_gradient_of_many_small_systems_does_not_hang(rng) -> None:
    # on two cores, jax.numpy.linalg waits for ever here: two batched solves on one pool of threads
    A = jnp.asarray(general(rng, "float32", 50_000, 3, 3))
    b = jnp.ones((50_000, 3, 1), jnp.float32)
    gradient = jax.jit(jax.grad(lambda a, b: jnp.sum(linalgx.solve(a, b)), (0, 1)))
    for _ in range(3):
        jax.block_until_ready(gradient(A, b))


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_scales(scale, rng) -> None:
    A = well_conditioned(rng, "float64", 4, 4)
    rtol = tolerance("float64", 4, 10)
    np.testing.assert_allclose(linalgx.inv(jnp.asarray(scale * A)) * scale, np.linalg.inv(A), atol=rtol)
    x = linalgx.solve(jnp.asarray(scale * A), scale * jnp.ones(4))
    np.testing.assert_allclose(x, np.linalg.solve(A, np.ones(4)), atol=rtol)


def test_tensors(rng) -> None:
    a = jnp.asarray(well_conditioned(rng, "float64", 6, 6).reshape(2, 3, 3, 2))
    b = jnp.asarray(general(rng, "float64", 2, 3))
    x = linalgx.tensorsolve(a, b)
    np.testing.assert_allclose(jnp.tensordot(a, x, 2), b, atol=tolerance("float64", 6, 10))
    np.testing.assert_allclose(jnp.tensordot(linalgx.tensorinv(a), b, 2), x, atol=tolerance("float64", 6, 10))
    # axes are a tuple or a list, by place or by name
    expected = np.linalg.tensorsolve(a, b.T, [0, 2])
    for x in (linalgx.tensorsolve(a, b.T, [0, 2]), linalgx.tensorsolve(a, b.T, axes=[0, 2])):
        np.testing.assert_allclose(x, expected, atol=tolerance("float64", 6, 10))


def test_torch_agrees(rng) -> None:
    torch = pytest.importorskip("torch")
    A, B = well_conditioned(rng, "complex128", 4, 4), general(rng, "complex128", 2, 4)
    a, b = torch.tensor(A, requires_grad=True), torch.tensor(B, requires_grad=True)
    (torch.linalg.solve(a, b, left=False).abs() ** 2).sum().backward()
    loss = lambda a, b: jnp.sum(jnp.abs(linalgx.solve(a, b, left=False)) ** 2)
    for ours, theirs in zip(jax.grad(loss, (0, 1))(jnp.asarray(A), jnp.asarray(B)), (a, b), strict=True):
        np.testing.assert_allclose(np.conj(ours), theirs.grad.resolve_conj().numpy(), atol=tolerance("float64", 4, 100))
