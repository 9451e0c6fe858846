"""The singular value decomposition where the spectrum is degenerate, zero, huge, tiny or not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx.decompositions.svd import svd_p
from tests.families.differences import FD, assert_derivative
from tests.operations.case import tolerance
from tests.operations.inputs import general, unitary, well_conditioned, with_singular_values


def _H(x):
    return x.conj().swapaxes(-1, -2)


def _mapped(U, values, Vh):
    return (U * values.astype(U.dtype)[None, :]) @ Vh


def _polar(a):
    U, _, Vh = np.linalg.svd(a, full_matrices=False)
    return U @ Vh


def _our_polar(a):
    U, _, Vh = linalgx.svd(a, full_matrices=False)
    return U @ Vh


SPECTRA = [(2, 2, 1), (1, 1, 1), (2, 2 - 1e-12, 1), (2, 2 - 1e-6, 1), (3, 2, 1)]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 3), "float64"), ((5, 3), "complex128"), ((3, 4), "complex128")], ids=str
)
@pytest.mark.parametrize("values", SPECTRA, ids=str)
def test_polar_factor_at_repeated_singular_values(values, shape, dtype, rng):
    a = with_singular_values(rng, dtype, *shape, values)
    # the part that a gap of 1e-6 leaves is a rounding error divided by it
    rtol = 1e-8 if values[0] - values[1] == pytest.approx(1e-6) else FD
    assert_derivative(_our_polar, _polar, a, rng, rtol=rtol)


def test_polar_factor_at_the_identity(rng):
    weights = general(rng, "float64", 3, 3)
    gradient = jax.grad(lambda a: jnp.sum(weights * _our_polar(a)))(jnp.eye(3))
    np.testing.assert_allclose(gradient, (weights - weights.T) / 2, atol=tolerance("float64", 3))


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_polar_factor_at_any_scale(scale, rng):
    a, weights = with_singular_values(rng, "float64", 5, 3, (2, 2, 1)), general(rng, "float64", 5, 3)
    gradient = jax.grad(lambda x: jnp.sum(weights * _our_polar(x)))
    np.testing.assert_allclose(
        gradient(jnp.asarray(a * scale)) * scale, gradient(jnp.asarray(a)), atol=tolerance("float64", 5, 10)
    )


@pytest.mark.parametrize("scale", [1e-19, 1e-8, 1.0, 1e8, 1e19])
def test_polar_factor_in_single_precision(scale, rng):
    a, weights = with_singular_values(rng, "float64", 5, 3, (2, 2, 1)), general(rng, "float64", 5, 3)
    gradient = lambda x: jax.grad(lambda x: jnp.sum(weights.astype(x.dtype) * _our_polar(x)))(x)
    single = gradient(jnp.asarray(a * scale, jnp.float32)) * scale
    np.testing.assert_allclose(single, gradient(jnp.asarray(a)), atol=tolerance("float32", 5, 10))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 4), "float64"), ((5, 4), "complex128"), ((4, 6), "complex128")], ids=str
)
def test_projector_on_a_space_of_equal_singular_values(shape, dtype, rng):
    a = with_singular_values(rng, dtype, *shape, (3, 3, 1, 1))

    def projectors(svd):
        def f(x):
            U, _, Vh = svd(x, full_matrices=False)
            return (U[:, :2] @ _H(U[:, :2])).sum(0) + (_H(Vh[2:]) @ Vh[2:]).sum()

        return f

    assert_derivative(projectors(linalgx.svd), projectors(np.linalg.svd), a, rng)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 3), "float64"), ((3, 5), "complex128"), ((4, 1), "complex128")], ids=str
)
def test_projector_on_the_null_space_of_full_matrices(shape, dtype, rng):
    a, k = well_conditioned(rng, dtype, *shape), min(shape)

    def projector(svd):
        def f(x):
            U, _, Vh = svd(x)
            return U[:, k:] @ _H(U[:, k:]) if shape[0] > k else _H(Vh[k:]) @ Vh[k:]

        return f

    assert_derivative(projector(linalgx.svd), projector(np.linalg.svd), a, rng)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 4), "float64"), ((5, 4), "complex128"), ((4, 5), "complex128")], ids=str
)
def test_projector_on_the_null_space_below_full_rank(shape, dtype, rng):
    """Along a path of constant rank 2, on which the projector is smooth; two singular values are zero."""
    (m, n), r = shape, 2
    factor, mixed = general(rng, dtype, m, r), general(rng, dtype, m, n)

    def projectors(svd):
        def f(x):
            U, _, Vh = svd(x @ (x.T @ mixed))
            return U[:, r:] @ _H(U[:, r:]) + (_H(Vh[r:]) @ Vh[r:]).sum()

        return f

    assert_derivative(projectors(linalgx.svd), projectors(np.linalg.svd), factor, rng, rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("values", [(2, 2, 1), (1, 1, 1), (2, 1, 0), (0, 0, 0)], ids=str)
def test_sum_of_singular_values(values, dtype, rng):
    """U V^H, whichever outputs are asked for; a subgradient where a singular value is zero."""
    a = jnp.asarray(with_singular_values(rng, dtype, 4, 3, values))
    by_values = jax.grad(lambda x: jnp.sum(linalgx.svdvals(x)))(a)
    by_svd = jax.grad(lambda x: jnp.sum(linalgx.svd(x).S))(a)
    np.testing.assert_allclose(by_values, by_svd, atol=tolerance(dtype, 4))
    assert np.linalg.norm(by_values, 2) <= 1 + tolerance(dtype, 4)
    # the sum is the largest value of Re tr X^H A over |X| <= 1, and a subgradient attains it
    np.testing.assert_allclose(np.sum(np.real(by_values * a)), sum(values), atol=tolerance(dtype, 4, 10))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_derivatives_of_the_zero_matrix_are_finite(dtype, shape, full, rng):
    a = jnp.zeros(shape, dtype)
    out, pull = jax.vjp(lambda x: linalgx.svd(x, full_matrices=full), a)
    (gradient,) = pull(jax.tree.map(jnp.ones_like, out))
    _, moved = jax.jvp(lambda x: linalgx.svd(x, full_matrices=full), (a,), (jnp.asarray(general(rng, dtype, *shape)),))
    assert all(np.isfinite(x).all() for x in (*out, *moved, gradient))


def test_tangents_keep_the_factors_unitary(rng):
    a, da = (jnp.asarray(general(rng, "complex128", 5, 3)) for _ in range(2))
    (U, S, Vh), (dU, dS, dVh) = jax.jvp(linalgx.svd, (a,), (da,))
    close = lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance("float64", 5, 100))
    close(_H(U) @ dU + _H(dU) @ U, np.zeros((5, 5)))
    close(Vh @ _H(dVh) + dVh @ _H(Vh), np.zeros((3, 3)))
    diagonal = lambda s: jnp.diag(s).astype(U.dtype)
    close(dU[:, :3] @ diagonal(S) @ Vh + U[:, :3] @ (diagonal(dS) @ Vh + diagonal(S) @ dVh), da)


def test_unused_outputs_take_no_work():
    """The gradient of a function of S alone is one product, without divisions."""
    grad = lambda f: str(jax.make_jaxpr(lambda r, s: svd_p.bwd(r, (None, s, None), full_matrices=False))(*f))
    jaxpr = grad(((jnp.ones((4, 3)), jnp.ones(3), jnp.ones((3, 3))), jnp.ones(3)))
    assert jaxpr.count("dot_general") == 1
    assert " div " not in jaxpr


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_a_matrix_that_is_not_finite_spoils_only_itself(dtype, bad, rng):
    good = general(rng, dtype, 3, 4, 3)
    spoilt = good.copy()
    spoilt[1, 2, 0] = bad
    for function in (linalgx.svd, lambda a: (linalgx.svdvals(a),), lambda a: linalgx.svd(a[:, :3], hermitian=True)):
        for ours, expected in zip(function(jnp.asarray(spoilt)), function(jnp.asarray(good)), strict=True):
            np.testing.assert_array_equal(ours[::2], expected[::2])
            assert np.isnan(ours[1]).all()
    weights = jnp.asarray(general(rng, dtype, 3, 4, 3))
    gradient = jax.grad(lambda a: jnp.sum(jnp.real(weights * _our_polar(a))))
    with np.errstate(invalid="ignore"):
        ours, expected = gradient(jnp.asarray(spoilt)), gradient(jnp.asarray(good))
    np.testing.assert_allclose(ours[::2], expected[::2], rtol=tolerance(dtype, 4))
    assert np.isnan(ours[1]).all()


def test_hermitian_with_a_zero_eigenvalue_and_signs(rng):
    V = unitary(rng, "complex128", 4)
    a = (V * np.array([-3.0, 0.0, 2.0, 3.0])) @ _H(V)
    U, S, Vh = linalgx.svd(jnp.asarray(a), hermitian=True)
    rtol = tolerance("float64", 4, 10)
    np.testing.assert_allclose(S, [3, 3, 2, 0], atol=rtol)
    np.testing.assert_allclose(_mapped(U, S, Vh), a, atol=rtol)
    np.testing.assert_allclose(Vh @ _H(Vh), np.eye(4), atol=rtol)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_hermitian_has_the_same_phases(dtype, rng):
    V = unitary(rng, dtype, 4)
    a = jnp.asarray((V * np.array([-4.0, 3.0, -2.0, 1.0])) @ _H(V))
    for ours, expected in zip(linalgx.svd(a, hermitian=True), linalgx.svd(a), strict=True):
        np.testing.assert_allclose(ours, expected, atol=tolerance("float64", 4, 100))


@pytest.mark.parametrize("n", [6, 9])
def test_singular_values_of_the_hilbert_matrix(n):
    import mpmath

    a = 1 / (np.arange(n)[:, None] + np.arange(n)[None, :] + 1.0)
    with mpmath.workdps(50):
        exact = [float(x) for x in mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False)]
    np.testing.assert_allclose(linalgx.svdvals(jnp.asarray(a)), exact, rtol=0, atol=tolerance("float64", n))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("shape", "dtype"), [((3, 3), "float64"), ((5, 3), "complex128"), ((3, 5), "complex128")])
def test_gradient_of_torch(dtype, shape, full, rng):
    torch = pytest.importorskip("torch")
    a, k = well_conditioned(rng, dtype, *shape), min(shape)
    weights = general(rng, dtype, *shape)

    x = torch.tensor(a, requires_grad=True)
    U, S, Vh = torch.linalg.svd(x, full_matrices=full)
    mapped = (U[:, :k] * torch.exp(S).to(U.dtype)) @ Vh[:k]
    (torch.tensor(weights).conj() * mapped).sum().real.backward()

    def f(x):
        U, S, Vh = linalgx.svd(x, full_matrices=full)
        return jnp.sum(jnp.real(weights.conj() * _mapped(U[:, :k], jnp.exp(S), Vh[:k])))

    ours = jnp.conj(jax.grad(f)(jnp.asarray(a)))
    np.testing.assert_allclose(ours, x.grad.numpy(), atol=tolerance("float64", 5, 1000))
