"""Cholesky, triangular systems and elimination with the batch last, against LAPACK and mpmath on hard matrices."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

from linalgx._core.batch_minor import batch_minor
from linalgx._core.operation import house_numerics
from linalgx._kernels import cofactor_expansion, lapack
from linalgx._kernels.batch_minor import cofactors, elimination, triangular
from tests.operations.inputs import general, positive_definite, unitary

SIZES = pytest.mark.parametrize(
    ("dtype", "n"),
    [(dtype, n) for dtype in ("float32", "complex128") for n in (1, 2, 3, 8)]
    # complex elimination is tested at 8, and compiles slowly
    + [("float64", 4), ("float32", 12), pytest.param("complex64", 5, marks=pytest.mark.slow)],
)


@pytest.fixture(autouse=True)
def _as_in_an_operation():
    with house_numerics():
        yield


def _hilbert(n: int) -> np.ndarray:
    return 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)


def _growing(n: int) -> np.ndarray:
    """Wilkinson's matrix, whose elimination grows by 2 in each step."""
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, -1] = 1
    return A


def _hard(rng: np.random.Generator, dtype: str, n: int) -> list[np.ndarray]:
    """Square matrices: ill conditioned, graded by rows and by columns, with ties among the pivots, huge and tiny."""
    X, far = general(rng, dtype, n, n), np.finfo(dtype).maxexp // 5
    grades = 2.0 ** np.linspace(-far, far, n)
    ones = np.sign(np.real(general(rng, dtype, n, n)))
    matrices = [
        X,
        _hilbert(n),
        _growing(n),
        grades[:, None] * X,
        X * grades,
        ones + 3 * np.eye(n),
        np.eye(n)[::-1],
        X * 2.0**far,
        X * 2.0**-far,
    ]
    return [np.asarray(A, dtype) for A in matrices]


def _batch_last(matrices) -> jax.Array:
    return jnp.asarray(np.stack(matrices, axis=-1))


def _eps(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def _wide(x) -> np.ndarray:
    return np.asarray(x).astype(np.promote_types(x.dtype, np.float64))


@SIZES
def test_lu_has_the_pivots_of_lapack_and_its_backward_error(dtype: str, n: int, rng) -> None:
    matrices = _hard(rng, dtype, n)
    matrices += [np.zeros((n, n), dtype), np.ones((n, n), dtype), np.diag(np.arange(n)).astype(dtype)]
    LU, pivots = jax.jit(functools.partial(elimination.lu_factor, pivot=True))(_batch_last(matrices))
    for i, A in enumerate(matrices):
        _, expected = lapack.lu_factor(jnp.asarray(A))
        # of the Hilbert matrix, the second, the pivots from the ninth on are smaller than rounding errors
        compared = slice(8 if i == 1 else n)
        np.testing.assert_array_equal(pivots[compared, i], expected[compared])
        F = _wide(LU[..., i])
        L, U = np.tril(F, -1) + np.eye(n), np.triu(F)
        order = np.asarray(jax.lax.linalg.lu_pivots_to_permutation(pivots[:, i], n))
        bound = 4 * n * _eps(dtype) * (np.abs(L) @ np.abs(U)) + np.finfo(dtype).tiny
        assert np.all(np.abs(_wide(A)[order] - L @ U) <= bound)


@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 5), (8, 1), (1, 4), (4, 2), (3, 4)])
def test_lu_of_rectangular_matrices(m: int, n: int, rng) -> None:
    A = general(rng, "complex128", m, n)
    LU, pivots = elimination.lu_factor(_batch_last([A, 2 * A]), pivot=True)
    expected, order = lapack.lu_factor(jnp.asarray(A))
    np.testing.assert_array_equal(pivots, np.stack([order, order], -1))
    np.testing.assert_allclose(LU[..., 0], expected, atol=32 * _eps("float64"))


@SIZES
def test_solution_has_a_small_backward_error(dtype: str, n: int, rng) -> None:
    matrices = _hard(rng, dtype, n)
    A, B = _batch_last(matrices), _batch_last([general(rng, dtype, n, 2) for _ in matrices])
    LU, pivots = elimination.lu_factor(A, pivot=True)
    for adjoint in (False, True):
        X = jax.jit(functools.partial(elimination.lu_solve, left=True, adjoint=adjoint))(LU, pivots, B)
        for i, a in enumerate(matrices):
            a = _wide(a).conj().T if adjoint else _wide(a)
            F = np.abs(_wide(LU[..., i]))
            size = (np.tril(F, -1) + np.eye(n)) @ np.triu(F)
            order = np.asarray(jax.lax.linalg.lu_pivots_to_permutation(pivots[:, i], n))
            size = size[np.argsort(order)]
            size = size.T if adjoint else size
            residual = np.abs(a @ _wide(X[..., i]) - _wide(B[..., i]))
            assert np.all(residual <= 8 * n * _eps(dtype) * (size @ np.abs(_wide(X[..., i])) + np.abs(B[..., i])))


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("batch", [512, 513, 40_001])
def test_large_batches_in_parts(n: int, batch: int, rng) -> None:
    # of n = 3 and 4 more than one long part
    A = general(rng, "float32", batch, n, n)
    A[[1, -2]], A[[2, -1]] = 0, np.nan
    failed, known = [1, 2, -2, -1], np.setdiff1d(np.arange(batch), [1, 2, batch - 2, batch - 1])
    last = jnp.moveaxis(jnp.asarray(A), 0, -1)
    X, info = jax.jit(elimination.inv)(last)
    X = np.moveaxis(_wide(X), -1, 0)
    residual = np.abs(X @ A - np.eye(n)).max(axis=(1, 2))
    condition = np.linalg.norm(A, axis=(1, 2)) * np.linalg.norm(X, axis=(1, 2))
    assert np.all(residual[known] <= 4 * n * _eps("float32") * condition[known])
    assert np.all(np.isnan(X[failed]))
    np.testing.assert_array_equal(np.flatnonzero(info), [1, batch - 2])
    LU, pivots = jax.jit(functools.partial(elimination.lu_factor, pivot=True))(last)
    _, order = lapack.lu_factor(jnp.asarray(A[known]))
    np.testing.assert_array_equal(pivots[:, known], order.T)
    F = np.moveaxis(_wide(LU), -1, 0)[known]
    L, U = np.tril(F, -1) + np.eye(n), np.triu(F)
    permuted = np.take_along_axis(A[known], np.asarray(jax.lax.linalg.lu_pivots_to_permutation(order, n))[..., None], 1)
    assert np.all(np.abs(L @ U - permuted) <= 4 * n * _eps("float32") * (np.abs(L) @ np.abs(U)))


@SIZES
def test_determinant_and_inverse(dtype: str, n: int, rng) -> None:
    matrices = _hard(rng, dtype, n)[:6]
    A = _batch_last(matrices)
    _check_determinants_and_inverses(matrices, *elimination.slogdet_and_inverse(A), elimination.det(A))


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", pytest.param("complex64", marks=pytest.mark.slow), "complex128"]
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_determinant_and_inverse_by_expansion(dtype: str, n: int, rng) -> None:
    matrices = _hard(rng, dtype, n)
    A = _batch_last(matrices)
    X, info = cofactor_expansion.inv(A, batch_minor) if n < 3 else elimination.inv(A)
    np.testing.assert_array_equal(info, 0)
    results = *cofactor_expansion.slogdet(A, batch_minor), X, cofactor_expansion.det(A, batch_minor)
    _check_determinants_and_inverses(matrices, *results)
    # the same with the batch in front
    A = jnp.stack(matrices)
    X, _ = cofactor_expansion.inv(A) if n < 3 else elimination.inv(_batch_last(matrices))
    results = *cofactor_expansion.slogdet(A), jnp.moveaxis(X, 0, -1) if n < 3 else X, cofactor_expansion.det(A)
    _check_determinants_and_inverses(matrices, *results)


def _check_determinants_and_inverses(matrices, sign, logarithm, X, delta) -> None:
    """All four against mpmath."""
    n, dtype = len(matrices[0]), matrices[0].dtype
    for i, a in enumerate(matrices):
        with mpmath.workdps(500):
            exact = mpmath.matrix(_wide(a).tolist())
            inverse = np.array((exact**-1).tolist(), dtype=complex)
            determinant = mpmath.det(exact)
            modulus, phase = float(mpmath.log(abs(determinant))), complex(determinant / abs(determinant))
            value = complex(determinant)
        # the condition for perturbations of single entries (Skeel), and the growth of the elimination
        condition = np.max(np.abs(inverse) @ np.abs(_wide(a)) @ np.abs(inverse), initial=0) / np.max(np.abs(inverse))
        rtol = 16 * n * _eps(dtype) * max(condition, 1) * 2 ** (n - 1)
        np.testing.assert_allclose(_wide(X[..., i]), inverse, rtol=0, atol=rtol * np.max(np.abs(inverse)))
        assert abs(float(logarithm[i]) - modulus) <= rtol + 8 * n * _eps(dtype) * abs(modulus)
        assert abs(complex(sign[i]) - phase) <= rtol
        if np.finfo(dtype).tiny < abs(value) < np.finfo(dtype).max:
            assert abs(complex(delta[i]) - value) <= rtol * abs(value)


def test_failed_eliminations() -> None:
    A = _batch_last(
        [np.eye(4), np.zeros((4, 4)), np.ones((4, 4)), np.diag([1.0, 2.0, 0.0, 3.0]), np.full((4, 4), np.nan)]
    )
    X, info = elimination.inv(A)
    np.testing.assert_array_equal(info, [0, 1, 2, 3, 0])
    np.testing.assert_array_equal(np.isnan(X).all((0, 1)), [False, True, True, True, True])
    np.testing.assert_array_equal(X[..., 0], np.eye(4))
    np.testing.assert_array_equal(elimination.det(A)[:4], [1, 0, 0, 0])
    sign, logarithm = elimination.slogdet(A)
    np.testing.assert_array_equal(sign[:4], [1, 0, 0, 0])
    np.testing.assert_array_equal(logarithm[:4], [0, -np.inf, -np.inf, -np.inf])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_expansions_where_a_product_has_no_range(n: int) -> None:
    far, eye = 1e300, np.eye(n)
    grades = np.diag([far, 1 / far, 1.0][:n])
    matrices = [eye, far * eye, eye / far, grades, grades[::-1], np.zeros((n, n)), np.ones((n, n)), np.nan * eye]
    sign, logarithm = cofactor_expansion.slogdet(_batch_last(matrices), batch_minor)
    np.testing.assert_array_equal(cofactor_expansion.slogdet(jnp.stack(matrices)), (sign, logarithm))
    assert bool(jnp.isnan(sign[-1]))
    assert bool(jnp.isnan(logarithm[-1]))
    for i, A in enumerate(matrices[:-1]):
        np.testing.assert_allclose((sign[i], logarithm[i]), np.linalg.slogdet(A), rtol=4 * _eps("float64"), atol=1e-12)
    if n < 3:
        X, info = cofactor_expansion.inv(_batch_last(matrices), batch_minor)
        np.testing.assert_array_equal(info, [0, 0, 0, 0, 0, 1, 2 if n > 1 else 0, 0])
        in_front = cofactor_expansion.inv(jnp.stack(matrices))
        np.testing.assert_array_equal(jnp.moveaxis(in_front[0], 0, -1), X)
        np.testing.assert_array_equal(in_front[1], info)
        for i in range(5):
            np.testing.assert_allclose(X[..., i], np.linalg.inv(matrices[i]), rtol=4 * _eps("float64"))


def test_determinant_whose_partial_products_leave_the_range() -> None:
    d = np.array([1e200, 1e200, 1e-200, 1e-200])
    np.testing.assert_allclose(elimination.det(_batch_last([np.diag(d), np.diag(d[::-1])])), 1, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_adjugate_at_every_rank(rank: int, rng) -> None:
    U, V = unitary(rng, "complex128", 4), unitary(rng, "complex128", 4)
    s = np.where(np.arange(4) < rank, [4.0, 3.0, 2.0, 1.0], 0)
    A = (U * s) @ V.conj().T
    others = np.array([np.prod(np.delete(s, i)) for i in range(4)])
    expected = np.linalg.det(U) * np.linalg.det(V.conj().T) * ((V * others) @ U.conj().T)
    np.testing.assert_allclose(cofactors.adjugate(_batch_last([A]))[..., 0], expected, atol=1e3 * _eps("float64"))


@SIZES
def test_cholesky_has_a_small_backward_error(dtype: str, n: int, rng) -> None:
    grades = 2.0 ** np.linspace(-np.finfo(dtype).maxexp // 5, np.finfo(dtype).maxexp // 5, n)
    matrices = [positive_definite(rng, dtype, n), _hilbert(n) + n * _eps(dtype) * np.eye(n), np.eye(n)]
    matrices.append(grades[:, None] * _wide(matrices[0]) * grades)
    A = _batch_last([np.asarray(a, dtype) for a in matrices])
    L = jax.jit(triangular.cholesky)(A)
    for i in range(len(matrices)):
        factor, a = _wide(L[..., i]), _wide(A[..., i])
        np.testing.assert_array_equal(factor, np.tril(factor))
        d = np.sqrt(np.real(np.diag(a)))
        assert np.all(np.abs(factor @ factor.conj().T - a) <= 4 * n * _eps(dtype) * np.outer(d, d))
        assert np.all(np.imag(np.diag(factor)) == 0)
        assert np.all(np.real(np.diag(factor)) > 0)


def test_cholesky_of_what_is_not_positive_definite() -> None:
    bad = [np.diag([1.0, 1.0, -1.0]), np.diag([1.0, 0.0, 1.0]), np.diag([-1.0, 1.0, 1.0]), np.full((3, 3), np.nan)]
    L = triangular.cholesky(_batch_last([np.eye(3), *bad]))
    np.testing.assert_array_equal(L[..., 0], np.eye(3))
    lower = np.tril(np.ones((3, 3), bool))
    for i in range(1, 5):
        np.testing.assert_array_equal(np.isnan(L[..., i]), lower)


@pytest.mark.parametrize(
    "options",
    [(lower, left, unit, adjoint) for lower in (0, 1) for left in (0, 1) for unit in (0, 1) for adjoint in (0, 1)],
)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_triangular_systems(n: int, options, rng) -> None:
    lower, left, unit, adjoint = map(bool, options)
    A = general(rng, "complex128", n, n) + 2 * np.eye(n)
    B = general(rng, "complex128", n, 2) if left else general(rng, "complex128", 2, n)
    X = triangular.solve_triangular(
        _batch_last([A]), _batch_last([B]), lower=lower, left=left, unit_diagonal=unit, adjoint=adjoint
    )[..., 0]
    read = np.tril(A) if lower else np.triu(A)
    if unit:
        read = read - np.diag(np.diag(read)) + np.eye(n)
    op = read.conj().T if adjoint else read
    size = np.abs(op) @ np.abs(X) if left else np.abs(X) @ np.abs(op)
    assert np.all(np.abs((op @ X if left else X @ op) - B) <= 8 * n * _eps("float64") * size)


def test_solution_and_inverse_from_the_factor(rng) -> None:
    A = positive_definite(rng, "complex128", 5)
    B, L = general(rng, "complex128", 5, 3), scipy.linalg.cholesky(A, lower=True)
    X = triangular.cholesky_solve(_batch_last([L]), _batch_last([B]))[..., 0]
    np.testing.assert_allclose(A @ X, B, atol=200 * _eps("float64"))
    inverse = triangular.cholesky_inverse(_batch_last([L]))[..., 0]
    np.testing.assert_allclose(A @ inverse, np.eye(5), atol=200 * _eps("float64"))
