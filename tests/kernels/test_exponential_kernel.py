"""The batch-minor matrix exponential: against mpmath and the general path, with derivatives, each member by itself."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from linalgx._core.operation import house_numerics
from linalgx._kernels import exponential
from linalgx._kernels.batch_minor.exponential import matrix_exp
from linalgx._kernels.batch_minor.products import matmul_in_front, multiply

DTYPES = ["float32", "float64", "complex64", "complex128"]
NORMS = (0.0, 1e-8, 0.3, 2.0, 9.0, 40.0)


def _normal(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    X = rng.normal(size=shape)
    return (X + 1j * rng.normal(size=shape) if dtype.startswith("c") else X).astype(dtype)


def _apply(function, *arrays: np.ndarray) -> np.ndarray:
    with house_numerics():
        out = jax.jit(function)(*(jnp.moveaxis(jnp.asarray(x), 0, -1) for x in arrays))
    return np.moveaxis(np.asarray(out), -1, 0)


def _exact(A: np.ndarray) -> np.ndarray:
    with mpmath.workdps(40):
        return np.array(mpmath.expm(mpmath.matrix(A.tolist())).tolist(), complex)


def _assert_close(out: np.ndarray, expected: np.ndarray, norm: float) -> None:
    """A relative perturbation eps of A alone moves exp(A), and its derivatives, by |A| eps."""
    bound = 20 * max(norm, 1) * float(np.finfo(out.dtype).eps)
    assert np.linalg.norm(out - expected) <= bound * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_against_mpmath_at_every_norm(n, dtype, rng) -> None:
    X = _normal(rng, dtype, len(NORMS), n, n)
    X = X - np.conj(np.swapaxes(X, 1, 2)) if n > 1 else X / np.abs(X)
    X /= np.maximum(np.linalg.norm(X, 1, axis=(1, 2)), np.finfo(dtype).tiny)[:, None, None]
    A = (X * np.array(NORMS)[:, None, None]).astype(dtype)
    out = _apply(matrix_exp, A)
    assert out.dtype == A.dtype
    for norm, a, x in zip(NORMS, A, out, strict=True):
        _assert_close(x, _exact(a), norm * n)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize(("n", "order"), [(2, 1), (2, 2), (2, 3), (4, 1), (8, 1)])
def test_derivatives_of_block_matrices(n, order, dtype, rng) -> None:
    A = (_normal(rng, dtype, 3, n, n) * np.array([0.1, 1, 3])[:, None, None]).astype(dtype)
    directions = [_normal(rng, dtype, 3, n, n) for _ in range(order)]
    out = _apply(matrix_exp, A, *directions)
    for i in range(3):
        block = A[i]
        for E in directions:
            # the Fréchet derivative is a corner of the exponential of a block triangular matrix
            copies = np.kron(np.eye(len(block) // n), E[i])
            block = np.block([[block, copies], [np.zeros_like(block), block]])
        _assert_close(out[i], _exact(block)[:n, -n:], n * np.linalg.norm(A[i], 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_cases(dtype) -> None:
    A = np.zeros((4, 3, 3), dtype)
    A[1, 0, 1], A[2, 0, 2], A[3, 1, 2] = 1e-6, 1.0, 1e30
    np.testing.assert_array_equal(_apply(matrix_exp, A), np.eye(3, dtype=dtype) + A)


def test_non_normal_matrices_are_not_scaled_by_their_norm() -> None:
    A = np.array([[[1, 1e6], [0, -1]], [[0, 1e12], [0, 0]]])
    expected = np.array([[[np.e, 1e6 * np.sinh(1)], [0, 1 / np.e]], [[1, 1e12], [0, 1]]])
    np.testing.assert_allclose(_apply(matrix_exp, A), expected, rtol=40 * np.finfo(float).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("n", [3, 4])
def test_bad_members_stay_alone(n, dtype, rng) -> None:
    good, eye = _normal(rng, dtype, n, n), np.eye(n, dtype=dtype)
    A = np.stack([good, np.full((n, n), np.nan), -1e6 * eye, good, 1e6 * eye, np.full((n, n), -np.inf)]).astype(dtype)
    A[1, 0, 0] = 0
    out, healthy = _apply(matrix_exp, A), _apply(matrix_exp, np.broadcast_to(good, A.shape))
    for i in (0, 3):
        np.testing.assert_array_equal(out[i], healthy[i])
        _assert_close(out[i], _exact(good), np.linalg.norm(good, 1))
    assert np.all(np.isnan(out[1]))
    np.testing.assert_array_equal(out[2], 0)
    assert not np.any(np.isfinite(np.diag(out[4])))
    assert not np.all(np.isfinite(out[5]))


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("batch", [0, 1, 1024, 1300])
def test_every_size_of_the_batch(batch, n, rng) -> None:
    A, E = _normal(rng, "float64", batch, n, n), _normal(rng, "float64", batch, n, n)
    for arrays in ((A,), (A, E)):
        out = _apply(matrix_exp, *arrays)
        expected = np.asarray(exponential.matrix_exp(exponential.LEADING, *map(jnp.asarray, arrays)))
        assert out.shape == expected.shape
        scale = np.max(np.abs(expected), axis=(1, 2), initial=0, keepdims=True)
        bound = 400 * n * np.finfo(float).eps * scale
        assert np.all(np.abs(out - expected) <= bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (8, 5, 1)])
def test_products(shape, dtype, rng) -> None:
    m, k, n = shape
    A, B = _normal(rng, dtype, 7, m, k), _normal(rng, dtype, 7, k, n)
    expected = A @ B
    bound = 4 * k * float(np.finfo(dtype).eps) * np.max(np.abs(A) @ np.abs(B))
    np.testing.assert_allclose(_apply(multiply, A, B), expected, atol=bound, rtol=0)
    np.testing.assert_allclose(jax.jit(matmul_in_front)(A, B), expected, atol=bound, rtol=0)
