"""The singular value decomposition that runs on a GPU, by the polar decomposition: computed here, on the CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.loops import many_threads
from linalgx._core.operation import house_numerics
from linalgx._kernels import singular_values
from tests.operations.inputs import general

SHAPES = [(40, 40), (50, 34), (34, 50), (5, 50)]
DTYPES = ["float32", "complex128", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("float64", "complex64"))]


def _hard(rng, dtype: str, m: int, n: int) -> np.ndarray:
    """Matrices with graded, clustered, equal and vanishing singular values, and near both ends of the range."""
    k, wide = min(m, n), np.promote_types(dtype, "float64")
    X = general(rng, str(wide), m, n)
    U, _, Vh = np.linalg.svd(X, full_matrices=False)
    half = np.arange(k) < k // 2
    spectra = [10.0 ** -np.linspace(0, 20, k), 10.0 ** -np.linspace(0, 8, k), np.where(half, 1, 1e-6), 1.0 * half]
    matrices = [X, *(U * s @ Vh for s in spectra), U @ Vh, np.ones((m, n)), np.zeros((m, n))]
    matrices += [np.eye(m, n) * (np.arange(n) % 3), np.outer(X[:, 0], X[0])]
    numbers = np.finfo(dtype)
    # the least that keeps its digits: entries that are smaller by eps are normal numbers
    ends = float(numbers.max) / 64, float(numbers.tiny) / float(numbers.eps)
    matrices += [X / np.abs(X).max() * far for far in ends]
    return np.stack(matrices).astype(dtype)


@pytest.mark.parametrize("full", [False, True], ids=["reduced", "full"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hard_spectra(shape, dtype, full, rng) -> None:
    # twice: of matrices with few rows or columns it takes many
    A = np.concatenate([_hard(rng, dtype, *shape) for _ in range(2)])
    with house_numerics(), many_threads(True):
        assert singular_values._polar_pays(A)
        U, S, Vh = jax.jit(lambda A: singular_values.svd(A, full_matrices=full))(A)
        alone = jax.jit(singular_values.svdvals)(A)
    k, wide = min(shape), np.promote_types(dtype, "float64")
    # in units in which nothing that is computed from them leaves the range
    unit = np.maximum(np.abs(A).max(axis=(-2, -1)), np.finfo(dtype).tiny).astype("float64")[:, None]
    A, U, Vh = A.astype(wide) / unit[..., None], np.asarray(U, wide), np.asarray(Vh, wide)
    S, alone = (np.asarray(s, "float64") / unit for s in (S, alone))
    expected = np.linalg.svd(A, compute_uv=False)
    # Frobenius norms: a few eps in each of the columns
    bound = 4 * max(shape) * float(np.finfo(dtype).eps)
    for s in (S, alone):
        assert np.all(s >= 0)
        assert np.all(np.diff(s) <= 0)
        assert np.all(np.abs(s - expected) <= bound * expected[:, :1])
    for Q, order in ((U, shape[0]), (np.swapaxes(Vh, -1, -2).conj(), shape[1])):
        columns = order if full else k
        assert Q.shape[1:] == (order, columns)
        error = np.swapaxes(Q.conj(), -1, -2) @ Q - np.eye(columns)
        assert np.all(np.linalg.norm(error, axis=(-2, -1)) <= bound)
    error = np.linalg.norm(A - (U[..., :k] * S[:, None]) @ Vh[..., :k, :], axis=(-2, -1))
    assert np.all(error <= bound * expected[:, 0])


def test_zeros_are_exact() -> None:
    A = jnp.stack([jnp.zeros((40, 40)), jnp.diag(jnp.arange(40.0) % 3)])
    with many_threads(True):
        S = singular_values.svdvals(A)
    np.testing.assert_array_equal(S[0], 0)
    np.testing.assert_array_equal(S[1] == 0, np.arange(40) >= 26)


@pytest.mark.parametrize("eps", [2.0**-23, 2.0**-52])
@pytest.mark.parametrize("n", [2, 33, 1000, 10**6])
def test_the_steps_bring_all_singular_values_to_one(n: int, eps: float) -> None:
    x = np.concatenate([10.0 ** np.linspace(np.log10(eps), 0, 1000), [0.0]])
    for a, b, c in singular_values._weights(n, eps):
        assert c <= max(120, 0.02 / (n * eps))
        x = x * (a + b * x * x) / (1 + c * x * x)
        assert x.max() <= 1 + 1e-12
    assert x[-1] == 0
    # 10 in the last step, and rounding
    assert np.all(1 - x[:-1] <= 20 * eps)


def test_a_singular_member_leaves_the_others_as_they_are(rng) -> None:
    A = general(rng, "float64", 4, 36, 33)
    singular = A.copy()
    singular[2, :, 5] = 0
    with house_numerics(), many_threads(True):
        ours, without = (jax.jit(lambda A: singular_values.svd(A, full_matrices=False))(X) for X in (singular, A))
    for x, y in zip(ours, without, strict=True):
        np.testing.assert_array_equal(np.delete(x, 2, axis=0), np.delete(y, 2, axis=0))


def test_tall_matrices_are_not_completed_to_square_ones() -> None:
    with many_threads(True):
        program = (
            jax.jit(lambda A: singular_values.svd(A, full_matrices=False)).lower(jnp.zeros((2, 700, 40))).as_text()
        )
    assert "700x40" in program
    assert "700x700" not in program


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_members_that_are_not_finite_and_those_beside_them(rng, dtype, on_gpu) -> None:
    bad = complex(1, jnp.inf) if dtype == "complex128" else jnp.inf
    A = jnp.asarray(general(rng, dtype, 4, 36, 33)).at[1, 3, 3].set(jnp.nan).at[2, 0, 0].set(bad)
    with house_numerics(), many_threads(on_gpu):
        U, S, Vh = singular_values.svd(A, full_matrices=False)
        values = singular_values.svdvals(A)
    for x in (U, S, Vh, values):
        np.testing.assert_array_equal(np.isnan(x).reshape(4, -1).all(axis=-1), [False, True, True, False])
    # a few eps of the largest singular value, about 10
    np.testing.assert_allclose(((U * S[:, None].astype(dtype)) @ Vh)[::3], A[::3], rtol=0, atol=1e-13)
    np.testing.assert_allclose(values[::3], np.linalg.svd(A[::3], compute_uv=False), rtol=0, atol=1e-13)


def _calls(function, *shape) -> set[str]:
    """The routines that the program for a GPU calls."""
    lowered = jax.jit(function).trace(jax.ShapeDtypeStruct(shape, jnp.float32)).lower(lowering_platforms=("cuda",))
    return set(re.findall(r"custom_call @cusolver_(\w+)_ffi", lowered.as_text()))


def test_where_it_runs() -> None:
    def factors(A):
        return linalgx.svd(A, full_matrices=False)

    for function in (factors, linalgx.svdvals, jax.grad(lambda A: jnp.sum(linalgx.svdvals(A)))):
        for at_once in [(64, 64), (500, 32, 32), (15, 5, 64)]:
            assert _calls(function, *at_once) == {"gesvdj"}
        for by_polar in [(2, 33, 64), (256, 256), (2, 8, 64, 5)]:
            assert {"potrf", "syevd"} <= _calls(function, *by_polar)
    assert "gesdd" in jax.jit(factors).lower(jnp.zeros((2, 64, 64))).as_text()
