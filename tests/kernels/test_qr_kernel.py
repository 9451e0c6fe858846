"""The batch-minor QR decomposition: against LAPACK with its signs, scaled as LAPACK's, each member by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from linalgx._core.operation import house_numerics
from linalgx._kernels.batch_minor.qr import householder_qr, qr

DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(1, 1), (3, 3), (2, 3), (3, 1), (4, 4), (6, 4), (3, 7), (1, 5), (12, 9)]


def _normal(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    X = rng.normal(size=shape)
    return (X + 1j * rng.normal(size=shape) if dtype.startswith("c") else X).astype(dtype)


def _front(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 0)


def _decompose(A: np.ndarray, **options: bool) -> list[np.ndarray]:
    function = functools.partial(householder_qr, **options) if options else qr
    with house_numerics():
        return [_front(x) for x in jax.jit(function)(jnp.moveaxis(jnp.asarray(A), 0, -1))]


def _eps(A: np.ndarray) -> float:
    return float(np.finfo(A.dtype).eps)


def _batch(rng: np.random.Generator, dtype: str, m: int, n: int) -> np.ndarray:
    """General, with nothing to reflect in the first column or in any, zero, and rank one by exact numbers."""
    A = _normal(rng, dtype, 6, m, n)
    A[1, 1:, 0] = 0
    A[2] = np.triu(A[2])
    A[3] = 0
    A[4, 0] = -np.abs(A[4, 0])
    A[5] = 0
    A[5, :, 0] = np.arange(m)
    return A


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_and_signs_of_lapack(shape, dtype, rng) -> None:
    m, n = shape
    A = _batch(rng, dtype, m, n)
    Q, R = _decompose(A)
    assert Q.dtype == R.dtype == A.dtype
    for a, q, r in zip(A, Q, R, strict=True):
        expected_q, expected_r = np.linalg.qr(a)
        # the columns of Q are as well determined as the leading columns of A are independent
        k = min(m, n)
        condition = np.linalg.cond(a[:, :k]) if np.linalg.matrix_rank(a) == k else 1
        np.testing.assert_allclose(q, expected_q, atol=20 * max(m, n) * _eps(a) * condition, rtol=0)
        bound = 20 * max(m, n) * _eps(a) * condition * np.linalg.norm(a)
        np.testing.assert_allclose(r, expected_r, atol=bound, rtol=0)
        np.testing.assert_array_equal(np.tril(r, -1), 0)
        np.testing.assert_array_equal(np.diag(r).imag, 0)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (6, 4), (4, 6)])
def test_reflections_of_geqrf(shape, dtype, full, rng) -> None:
    m, n = shape
    k = min(m, n)
    A = _batch(rng, dtype, m, n)
    Q, R, V, tau = _decompose(A, full=full)
    assert Q.shape == (len(A), m, m if full else k)
    for i, a in enumerate(A):
        (packed, expected_tau), _ = scipy.linalg.qr(a, mode="raw")
        condition = np.linalg.cond(a[:, :k]) if np.linalg.matrix_rank(a) == k else 1
        bound = 20 * max(m, n) * _eps(a) * condition
        np.testing.assert_allclose(V[i], np.tril(packed[:, :k], -1) + np.eye(m, k), atol=bound, rtol=0)
        np.testing.assert_allclose(tau[i], expected_tau, atol=bound, rtol=0)
        np.testing.assert_array_equal(tau[i] == 0, expected_tau == 0)
        H = [np.eye(m) - t * np.outer(v, v.conj()) for t, v in zip(tau[i], V[i].T, strict=True)]
        product = functools.reduce(np.matmul, H)
        np.testing.assert_allclose(Q[i], product[:, : Q.shape[2]], atol=20 * m * _eps(a), rtol=0)
        np.testing.assert_allclose(Q[i][:, :k] @ R[i], a, atol=20 * m * _eps(a) * np.linalg.norm(a), rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 4])
def test_huge_and_tiny_numbers(n, dtype, rng) -> None:
    # numbers below the smallest normal one count as zero
    signs, sizes = np.sign(rng.normal(size=(n, n))), rng.uniform(0.5, 1, size=(n, n))
    A = (signs * sizes).astype(dtype)
    if dtype.startswith("c"):
        A += (1j * sizes.T).astype(dtype)
    small, large = (4e-38, 5e37) if np.finfo(dtype).bits == 32 else (1e-307, 5e306)
    sizes = np.array([small, 1, large], A.real.dtype)
    expected_q, expected_r = np.linalg.qr(A)
    bound = 20 * n * _eps(A) * np.linalg.cond(A)
    Q, R = _decompose(sizes[:, None, None] * A)
    for i, size in enumerate(sizes):
        np.testing.assert_allclose(Q[i], expected_q, atol=bound, rtol=0)
        lost = float(np.finfo(dtype).tiny / size)
        np.testing.assert_allclose(R[i] / size, expected_r, atol=bound * np.linalg.norm(A) + lost, rtol=0)


@pytest.mark.parametrize("n", [3, 6])
def test_graded_columns_keep_their_digits(n, rng) -> None:
    A = _normal(rng, "float64", n, n)
    grades = np.logspace(-150, 150, n)
    Q, R = _decompose((A * grades)[None])
    expected_q, expected_r = np.linalg.qr(A)
    bound = 20 * n * _eps(A) * np.linalg.cond(A)
    np.testing.assert_allclose(Q[0], expected_q, atol=bound, rtol=0)
    np.testing.assert_allclose(R[0] / grades, expected_r, atol=bound * np.linalg.norm(A), rtol=0)


def test_a_reflection_of_what_is_too_small_to_change_the_length() -> None:
    # LAPACK reflects, and changes the sign, as soon as anything is not zero
    A = np.array([[[1.0], [1e-200]], [[1.0], [0.0]], [[-1.0], [1e-200]]])
    Q, R, V, tau = _decompose(A, full=False)
    np.testing.assert_array_equal(R[:, 0, 0], [-1, 1, 1])
    np.testing.assert_array_equal(tau[:, 0], [2, 0, 2])
    np.testing.assert_allclose(V[:, 1, 0], [0.5e-200, 0, -0.5e-200], rtol=4 * _eps(A))
    np.testing.assert_array_equal(Q[:, 0, 0], [-1, 1, -1])


@pytest.mark.parametrize("n", [2, 4])
def test_nan_and_overflow_stay_in_their_member(n, rng) -> None:
    A = _normal(rng, "float64", 4, n, n)
    alone = _decompose(A)
    bad = A.copy()
    bad[1, -1, 0], bad[2] = np.nan, np.finfo(float).max
    together = _decompose(bad)
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours[[0, 3]], expected[[0, 3]])
    assert np.all(np.isnan(together[0][1]))
    assert np.all(np.isnan(np.diag(together[1][1])))
    assert not np.all(np.isfinite(together[1][2]))


@pytest.mark.parametrize("batch", [0, 1, 512, 513, 1300])
def test_every_size_of_the_batch(batch, rng) -> None:
    A = _normal(rng, "float64", batch, 4, 4)
    Q, R = _decompose(A)
    expected_q, expected_r = np.linalg.qr(A)
    bound = 80 * _eps(A) * np.max(np.linalg.cond(A), initial=1)
    np.testing.assert_allclose(Q, expected_q, atol=bound, rtol=0)
    np.testing.assert_allclose(R, expected_r, atol=10 * bound, rtol=0)
