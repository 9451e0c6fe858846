"""The matrix exponential: accuracy at every norm, batches of mixed norms, and its Fréchet derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import linalgx
from linalgx._kernels.select import prefer
from linalgx.matrix_functions import matrix_exp_p
from tests.operations.case import assert_close, tolerance
from tests.operations.inputs import general
from tests.operations.matrix_functions import exact

NORMS = [0.0, 1e-8, 1e-3, 0.3, 1.0, 3.0, 5.3, 7.5, 10.6, 30.0, 300.0]


def _kinds(rng, norm: float) -> dict[str, np.ndarray]:
    """Matrices of the given 1-norm whose exponential neither overflows nor hides its error."""
    X = general(rng, "float64", 4, 4)
    complex_ = general(rng, "complex128", 4, 4)
    kinds = {
        "skew": X - X.T,
        "decaying": -X @ X.T,
        "rates": np.abs(X) - np.diag(np.abs(X).sum(0)),
        "skew-Hermitian": complex_ - complex_.conj().T,
    }
    if norm < 50:
        kinds["general"] = X
    return {name: norm / np.linalg.norm(A, 1) * A for name, A in kinds.items()}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("single", [False, True])
def test_accuracy_at_every_norm(norm, single, rng) -> None:
    for name, A in _kinds(rng, norm).items():
        dtype = np.result_type(A.dtype, np.float64)
        if single:
            dtype = np.complex64 if np.iscomplexobj(A) else np.float32
        A = A.astype(dtype)
        # a relative perturbation eps of A alone moves exp(A) by |A| eps
        rtol = tolerance(dtype, 1, 0.25 * max(norm, 1))
        assert_close(linalgx.matrix_exp(A), exact(A.astype(np.result_type(dtype, np.float64))), rtol, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("noise", [1e-6, 1e-2, 0.1])
def test_matrices_that_cancel_in_their_powers(noise, dtype, rng) -> None:
    # u v^H with v^H u = 0: its square is noise, and the moduli of its entries say that it is large
    for norm in (1.0, 5.0, 20.0):
        X = np.outer(np.ones(8), [1, -1] * 4) + noise * general(rng, "float64", 8, 8)
        A = (norm / np.linalg.norm(X, 1) * X).astype(dtype)
        assert_close(linalgx.matrix_exp(A), exact(A.astype(float)), tolerance(dtype, 1, max(norm, 1)))


def test_a_large_matrix_is_scaled_by_its_powers(rng) -> None:
    # spectral radius 1, 1-norm 14: with the squarings that the moduli of its entries ask for, both fail
    A, E = (general(rng, "float32", 300, 300) / np.float32(np.sqrt(300)) for _ in range(2))
    value, derivative = jax.jvp(linalgx.matrix_exp, (A,), (E,))
    wide = scipy.linalg.expm_frechet(A.astype(float), E.astype(float))
    assert_close(value, wide[0], tolerance("float32", 1))
    assert_close(derivative, wide[1], tolerance("float32", 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("x", [2.5, 4.0, 5.3, 7.5, 10.6, 10.8, 20.0, 80.0])
def test_where_jax_scales_too_little(x, dtype) -> None:
    out = linalgx.matrix_exp(jnp.array([[0, x], [x, 0]], dtype))
    x = float(np.array(x, dtype))
    assert_close(
        out, np.array([[np.cosh(x), np.sinh(x)], [np.sinh(x), np.cosh(x)]]), tolerance(dtype, 1, 0.25 * max(x, 1))
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e30])
def test_nilpotent_of_degree_two_is_exact(size, dtype) -> None:
    A = np.array([[0, size], [0, 0]], dtype)
    np.testing.assert_array_equal(linalgx.matrix_exp(A), np.eye(2, dtype=dtype) + A)


def test_non_normal_matrices_are_not_scaled_by_their_norm() -> None:
    A = np.array([[1, 1e6], [0, -1]])
    expected = np.array([[np.e, 1e6 * np.sinh(1)], [0, 1 / np.e]])
    np.testing.assert_allclose(linalgx.matrix_exp(A), expected, rtol=tolerance("float64", 2, 10))
    three = np.array([[1, 1e6, 5e11], [0, 1, 1e6], [0, 0, 1]])
    expected = np.e * np.array([[1, 1e6, 1e12], [0, 1, 1e6], [0, 0, 1]])
    np.testing.assert_allclose(linalgx.matrix_exp(three), expected, rtol=tolerance("float64", 3, 100))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_underflow_is_zero_and_overflow_stays_in_its_member(dtype) -> None:
    eye = np.eye(3)
    batch = np.stack(
        [-1e6 * eye, np.diag([0, -1e6, -2e3]), 1e6 * eye, np.full((3, 3), np.nan), 0 * eye, np.full((3, 3), -np.inf)]
    )
    out = linalgx.matrix_exp(jnp.asarray(batch.astype(dtype)))
    np.testing.assert_array_equal(out[0], 0 * eye)
    np.testing.assert_array_equal(out[1], np.diag([1.0, 0, 0]))
    assert not bool(jnp.all(jnp.isfinite(out[2])))
    assert bool(jnp.all(jnp.isnan(out[3])))
    np.testing.assert_array_equal(out[4], eye)
    assert not bool(jnp.all(jnp.isfinite(out[5])))


@pytest.mark.parametrize("kernel", ["lapack", "batch_minor"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_underflow_of_the_largest_numbers(kernel, dtype) -> None:
    """The lowest number stands for minus infinity in many programs."""
    lowest = float(jnp.finfo(dtype).min)
    A = np.array([np.diag([lowest, 0, 0]), lowest * np.eye(3), lowest * np.eye(3) + 1, np.diag([0, 0, lowest / 4])])
    A[1, 0, :] = lowest
    with prefer(kernel):
        out, slope = jax.jvp(linalgx.matrix_exp, (jnp.asarray(A.astype(dtype)),), (jnp.ones(A.shape, dtype),))
    expected = np.array([np.diag(np.exp(X.diagonal())) for X in A])
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance(dtype, 3))
    assert np.isfinite(slope).all()


def test_members_of_a_batch_do_not_depend_on_each_other(rng) -> None:
    batch = jnp.asarray(np.stack([norm * general(rng, "float64", 3, 3) for norm in (1e-9, 1e-2, 1, 7, 30)]))
    together = linalgx.matrix_exp(batch)
    gradient = jax.grad(lambda A: jnp.sum(linalgx.matrix_exp(A)))(batch)
    for i, A in enumerate(batch):
        assert_close(together[i], linalgx.matrix_exp(A), tolerance("float64", 3))
        alone = jax.grad(lambda A: jnp.sum(linalgx.matrix_exp(A)))(A)
        assert_close(gradient[i], alone, tolerance("float64", 3))
        assert_close(jax.vmap(linalgx.matrix_exp)(batch)[i], together[i], 0.0)


def test_gradient_with_a_bad_member(rng) -> None:
    good = general(rng, "float64", 3, 3)
    batch = jnp.asarray(np.stack([good, np.full((3, 3), np.nan), good]))
    gradient = jax.grad(lambda A: jnp.sum(linalgx.matrix_exp(A)))(batch)
    expected = scipy.linalg.expm_frechet(good.T, np.ones((3, 3)), compute_expm=False)
    assert bool(jnp.all(jnp.isnan(gradient[1])))
    for i in (0, 2):
        assert_close(gradient[i], expected, tolerance("float64", 3, 10))


@pytest.mark.parametrize("norm", NORMS[:-1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frechet_derivative_at_every_norm(norm, dtype, rng) -> None:
    for name, A in _kinds(rng, norm).items():
        if np.iscomplexobj(A):
            continue
        A, E = A.astype(dtype), general(rng, dtype, 4, 4)
        _, ours = jax.jvp(linalgx.matrix_exp, (jnp.asarray(A),), (jnp.asarray(E),))
        rtol = tolerance(dtype, 2, 0.5 * max(norm, 1))
        wide_A, wide_E = A.astype(float), E.astype(float)
        block = np.block([[wide_A, wide_E], [np.zeros((4, 4)), wide_A]])
        assert_close(ours, exact(block)[:4, 4:], rtol, name)
        theirs = scipy.linalg.expm_frechet(wide_A, wide_E, compute_expm=False)
        assert_close(ours, theirs, tolerance(dtype, 4, 10 * max(norm, 1)), name)
        (pulled,) = jax.vjp(linalgx.matrix_exp, jnp.asarray(A))[1](jnp.asarray(E))
        adjoint = np.block([[wide_A.T, wide_E], [0 * wide_A, wide_A.T]])
        assert_close(pulled, exact(adjoint)[:4, 4:], rtol, name)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_second_frechet_derivative(dtype, rng) -> None:
    A, E, F = (2 * general(rng, dtype, 3, 3) for _ in range(3))
    Z = np.zeros_like(A)
    expected = exact(np.block([[A, E, F, Z], [Z, A, Z, F], [Z, Z, A, E], [Z, Z, Z, A]]))[:3, -3:]
    assert_close(matrix_exp_p(A, E, F), expected, tolerance(dtype, 3, 20))
    assert_close(matrix_exp_p(A, F, E), expected, tolerance(dtype, 3, 20))


def test_derivatives_where_the_norm_hides_the_size() -> None:
    A, E = np.array([[1, 1e6], [0, -1]]), np.array([[1.0, 2], [3, 4]])
    expected = exact(np.block([[A, E], [0 * A, A]]))[:2, 2:]
    _, ours = jax.jvp(linalgx.matrix_exp, (A,), (E,))
    assert_close(ours, expected, tolerance("float64", 2, 10))


def test_derivatives_at_zero_are_exact() -> None:
    gradient = jax.grad(lambda A: jnp.sum(linalgx.matrix_exp(A)))(jnp.zeros((3, 3)))
    np.testing.assert_array_equal(gradient, np.ones((3, 3)))
    # second order: (E F + F E) / 2
    E, F = np.array([[0.0, 1], [0, 0]]), np.array([[0.0, 0], [1, 0]])
    np.testing.assert_allclose(matrix_exp_p(np.zeros((2, 2)), E, F), 0.5 * np.eye(2), rtol=tolerance("float64", 1))


def test_many_orders_of_a_scalar() -> None:
    f = lambda x: linalgx.matrix_exp(jnp.reshape(x, (1, 1)))[0, 0]
    derivative = functools.reduce(lambda g, d: d(g), [jax.grad, jax.jacfwd, jax.grad, jax.jacrev], f)
    np.testing.assert_allclose(derivative(2.0), np.exp(2.0), rtol=tolerance("float64", 10))


def test_the_exponential_of_a_sum_of_commuting_matrices(rng) -> None:
    A = 0.5 * general(rng, "complex128", 4, 4)
    B = A @ A - 2 * A
    product = linalgx.matrix_exp(A) @ linalgx.matrix_exp(B)
    assert_close(linalgx.matrix_exp(A + B), product, tolerance("complex128", 4, 100))
