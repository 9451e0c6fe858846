"""LU where it is hard: singular and rank-deficient matrices, no interchanges, NaN, pivots of another library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations.case import tolerance
from tests.operations.inputs import general, well_conditioned


def _reconstruct(factors):
    P, L, U = factors
    return np.asarray(P) @ np.asarray(L) @ np.asarray(U)


@pytest.mark.parametrize(("m", "n"), [(4, 4), (5, 3), (3, 5)])
def test_factors_multiply_to_the_matrix(m, n, rng) -> None:
    A = general(rng, "complex128", 2, m, n)
    for pivot in (True, False):
        factors = linalgx.lu(jnp.asarray(A), pivot=pivot)
        np.testing.assert_allclose(_reconstruct(factors), A, atol=tolerance("float64", 5, 100))


@pytest.mark.parametrize("shape", [(130, 130), (200, 70), (70, 200)], ids=str)
def test_elimination_in_blocks(shape, rng) -> None:
    A = general(rng, "float64", 2, *shape) + 20 * np.eye(*shape)
    factors = linalgx.lu(jnp.asarray(A), pivot=False)
    np.testing.assert_array_equal(factors.P[0], np.eye(shape[0]))
    np.testing.assert_allclose(_reconstruct(factors), A, atol=tolerance("float64", 200, 20))


def test_zero_pivots_without_interchanges() -> None:
    A = jnp.array([[[0.0, 1], [1, 0]], [[0, 0], [0, 0]], [[2, 1], [4, 5]], [[0, 1], [0, 2]]])
    LU, pivots, info = linalgx.lu_factor_ex(A, pivot=False)
    assert info.tolist() == [1, 1, 0, 1]
    assert pivots.tolist() == [[0, 1]] * 4
    assert not jnp.isfinite(LU[0]).all()
    np.testing.assert_array_equal(LU[1:], [[[0, 0], [0, 0]], [[2, 1], [2, 3]], [[0, 1], [0, 2]]])


def test_info_counts_from_one_and_nan_is_no_zero(rng) -> None:
    A = np.stack([well_conditioned(rng, "float64", 3, 3) for _ in range(4)])
    A[1] = [[1, 2, 3], [2, 4, 6], [1, 1, 1]]
    A[2] = 0
    A[3, 2, 2] = np.nan
    LU, _, info = linalgx.lu_factor_ex(jnp.asarray(A))
    assert info.tolist() == [0, 3, 1, 0]
    assert jnp.isnan(LU).any(axis=(-2, -1)).tolist() == [False, False, False, True]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_singular_and_nan_members_alone_fail(left, adjoint, rng) -> None:
    A = np.stack([well_conditioned(rng, "complex128", 3, 3) for _ in range(3)])
    A[1] = np.diag([1, 0, 1])
    A[2, 0, 0] = np.nan
    LU, pivots = linalgx.lu_factor(jnp.asarray(A))
    B = np.zeros((3, 3, 3), complex)
    X = linalgx.lu_solve(LU, pivots, jnp.asarray(B), left=left, adjoint=adjoint)
    assert jnp.isnan(X).any(axis=(-2, -1)).tolist() == [False, True, True]


def test_pivots_that_count_from_one_are_noticed(rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    LU, pivots = linalgx.lu_factor(A)
    assert jnp.isnan(linalgx.lu_solve(LU, pivots + 1, jnp.ones(3))).all()
    assert jnp.isnan(linalgx.lu_unpack(LU, pivots + 1).P).all()
    assert jnp.isnan(linalgx.lu_solve(LU, pivots - 3, jnp.ones(3))).all()


@pytest.mark.parametrize("n", [3, 9])
def test_only_rows_below_are_interchanged(n, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", n, n))
    LU, pivots = linalgx.lu_factor(A)
    above = pivots.at[1].set(0)
    assert jnp.isnan(linalgx.lu_solve(LU, above, jnp.ones(n))).all()
    assert jnp.isnan(linalgx.lu_unpack(LU, above).P).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_pivots_of_any_integers(dtype, rng) -> None:
    A = jnp.asarray(well_conditioned(rng, "float64", 3, 3))
    LU, pivots = linalgx.lu_factor(A)
    given = pivots.astype(dtype)
    np.testing.assert_array_equal(linalgx.lu_solve(LU, given, jnp.ones(3)), linalgx.lu_solve(LU, pivots, jnp.ones(3)))
    too_large = given.at[2].set(np.iinfo(dtype).max)
    assert jnp.isnan(linalgx.lu_solve(LU, too_large, jnp.ones(3))).all()


def _central(f, A, D, h=1e-6):
    return (np.asarray(f(A + h * D)) - np.asarray(f(A - h * D))) / (2 * h)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4)], ids=str)
def test_derivative_where_the_last_pivot_is_zero(shape, rng) -> None:
    A = np.array([[4.0, 1, 5], [2, 3, 5], [6, 1, 7]])
    A = jnp.asarray(A if shape == (3, 3) else np.array([[4.0, 1, 2, 3], [2, 0.5, 1, 2]]))
    D = jnp.asarray(general(rng, "float64", *shape))
    f = lambda a: linalgx.lu_factor(a).LU
    value, tangent = jax.jvp(f, (A,), (D,))
    last = shape[0] - 1
    np.testing.assert_allclose(value[last, last], 0, atol=tolerance("float64", 3))
    np.testing.assert_allclose(tangent, _central(f, A, D), atol=1e-7)
    _, pull = jax.vjp(f, A)
    C = jnp.asarray(general(rng, "float64", *shape))
    np.testing.assert_allclose(jnp.vdot(pull(C)[0], D), jnp.vdot(C, tangent), rtol=tolerance("float64", 3, 10))


def test_rank_two_below_the_rows_has_no_derivative() -> None:
    tangent = jax.jvp(lambda a: linalgx.lu_factor(a).LU, (jnp.zeros((3, 3)),), (jnp.ones((3, 3)),))[1]
    assert not jnp.isfinite(tangent).all()


def test_differentiating_through_the_factors_is_differentiating_the_solution(rng) -> None:
    A, B = (jnp.asarray(general(rng, "complex128", 3, 3)) for _ in range(2))
    direct = lambda a, b: jnp.sum(jnp.abs(linalgx.solve(a, b)) ** 2)
    through = lambda a, b: jnp.sum(jnp.abs(linalgx.lu_solve(*linalgx.lu_factor(a), b)) ** 2)
    for ours, theirs in zip(jax.grad(through, (0, 1))(A, B), jax.grad(direct, (0, 1))(A, B), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance("float64", 3, 100) * float(jnp.abs(theirs).max()))


def test_torch_agrees(rng) -> None:
    torch = pytest.importorskip("torch")
    for m, n in ((4, 4), (5, 3), (3, 5)):
        A = well_conditioned(rng, "complex128", m, n)
        weights = [general(rng, "complex128", *s) for s in ((m, min(m, n)), (min(m, n), n))]
        x = torch.tensor(A, requires_grad=True)
        P, L, U = torch.linalg.lu(x)
        sum((torch.tensor(w) * y).sum().real for w, y in zip(weights, (L, U), strict=True)).backward()

        def f(a, weights=weights):
            _, L, U = linalgx.lu(a)
            return sum(jnp.real(jnp.sum(w * y)) for w, y in zip(weights, (L, U), strict=True))

        np.testing.assert_array_equal(linalgx.lu(jnp.asarray(A)).P, P.detach().numpy())
        np.testing.assert_allclose(
            np.conj(jax.grad(f)(jnp.asarray(A))), x.grad.resolve_conj().numpy(), atol=tolerance("float64", 5, 100)
        )
        LU, pivots = torch.linalg.lu_factor(torch.tensor(A))
        ours = linalgx.lu_factor(jnp.asarray(A))
        np.testing.assert_allclose(ours.LU, LU.numpy(), atol=tolerance("float64", 5, 10))
        np.testing.assert_array_equal(ours.pivots + 1, pivots.numpy())
