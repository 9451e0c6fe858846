"""The general eigendecomposition where the table cannot go: repeated eigenvalues, defective matrices, scales, NaN."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations.case import tolerance
from tests.operations.inputs import general, with_singular_values, with_spectrum

DTYPES = ["float32", "float64", "complex128"]


def jordan(n, value=1.0, above=1.0):
    return value * np.eye(n) + above * np.eye(n, k=1)


def sum_of_squares(A):
    """tr A^2, of gradient 2 A^T."""
    return jnp.sum(jnp.real(linalgx.eigvals(A) ** 2))


def _gradient(loss):
    return jax.jit(jax.grad(loss))


def check(loss, A, right, D, tol, *rest):
    """Both modes give the gradient ``right`` (in the pairing of JAX)."""
    scale = np.linalg.norm(right)
    gradient, forward = _both_modes(loss, A, jnp.asarray(D.astype(A.dtype)), *rest)
    assert np.linalg.norm(np.asarray(gradient) - right) <= tol * scale
    assert abs(float(forward) - np.sum(right * D).real) <= tol * scale * np.linalg.norm(D)


@functools.partial(jax.jit, static_argnums=0)
def _both_modes(loss, A, D, *rest):
    of_A = lambda A: loss(A, *rest)
    return jax.grad(of_A)(A), jax.jvp(of_A, (A,), (D,))[1]


def spectral_projector(A, limit, C):
    """Re tr C^T P, where P = V 1(l < limit) V^-1."""
    l, V = linalgx.eig(A)
    inside = (jnp.real(l) < limit).astype(V.dtype)
    return jnp.real(jnp.sum(C * ((V * inside[None, :]) @ jnp.linalg.inv(V))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1, 3, 100])
def test_projectors_onto_clusters(condition, dtype, rng):
    wide, single = dtype.replace("32", "64"), dtype == "float32"
    S = with_singular_values(rng, wide, 5, 5, np.linspace(condition, 1, 5))
    inverse = np.linalg.inv(S)
    C, D = general(rng, "complex128", 5, 5), general(rng, wide, 5, 5)
    real_C = C if wide == "complex128" else C.real
    spectra = ([1, 1, 2, 2, 3], [1, 1 + 1e-12, 2, 2, 3], [1, 1 + 1e-6, 3, 3, 3], [0, 0, 0, 0, 2])
    for values, scale in itertools.product(np.array(spectra), (1e-8, 1.0, 1e8)):
        A = jnp.asarray((((S * values) @ inverse) * scale).astype(dtype))
        inside = 1.0 * (values < 1.5)
        steps = inside[None, :] - inside[:, None]
        gaps = np.where(steps == 0, 1, scale * (values[None, :] - values[:, None]))
        right = (S @ ((steps / gaps) * (inverse @ real_C.T @ S)) @ inverse).T
        # a gap that is not taken for a tie costs eps / gap
        lost = 1e-9 * condition if values[1] == 1 + 1e-6 and not single else 0.0
        tol = tolerance(dtype, 5, 10 * condition) + lost
        weights = jnp.asarray(C.astype("complex64" if single else "complex128"))
        weights = weights if wide == "complex128" else jnp.real(weights).astype(weights.dtype)
        check(spectral_projector, A, right, D, tol, 1.5 * scale, weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_repeated_eigenvalues(dtype, rng):
    for values in ([1, 1, 1], [1, 1, 2], [0, 0, 1], [2, 1 + 1j, 1 + 1j]):
        A = with_spectrum(rng, dtype, values)
        check(sum_of_squares, jnp.asarray(A), 2 * A.T, general(rng, dtype, *A.shape), tolerance(dtype, 5, 10))
    for A in (np.zeros((3, 3), dtype), np.eye(3, dtype=dtype), np.diag([1, 1, 2]).astype(dtype)):
        check(sum_of_squares, jnp.asarray(A), 2 * A.T, general(rng, dtype, 3, 3), tolerance(dtype, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_low_rank(dtype, rng):
    """LAPACK's eigenvectors of the eigenvalue zero are parallel here, although there are independent ones."""
    for A in (np.outer(np.ones(4), np.arange(1, 5)), np.ones((6, 6)), np.outer(np.arange(1, 7), np.arange(6, 0, -1))):
        n = len(A)
        D = rng.standard_normal((n, n))
        check(sum_of_squares, jnp.asarray(A.astype(dtype)), 2 * A.T, D, tolerance(dtype, n, 100))
        # the projector onto the range, P = A / tr A
        C = rng.standard_normal((n, n))
        trace = float(np.trace(A))
        right = (A / trace @ C.T + C.T @ A / trace - 2 * A @ C.T @ A / trace**2).T / trace
        onto_range = lambda A, limit, C: -spectral_projector(A, limit, C)
        weights = jnp.asarray(C.astype(dtype.replace("float32", "complex64").replace("float64", "complex128")))
        check(onto_range, jnp.asarray(A.astype(dtype)), right, D, tolerance(dtype, n, 1000), 0.5 * trace, weights)


@pytest.mark.parametrize(
    "A",
    [
        jordan(2),
        jordan(2, 0.0),
        jordan(2, 2.0, 0.01),
        jordan(2, 1.0, 1e-6),
        jordan(3)[::-1, ::-1],
        jordan(3, 0.0),
        np.array([[1, 1], [0, 1 + 1e-8]]),
    ],
    ids=lambda A: str(A.tolist()),
)
def test_sums_over_eigenvalues_of_defective_matrices(A, rng):
    """jax.numpy.linalg and torch give the diagonal of 2 A^T only."""
    check(sum_of_squares, jnp.asarray(A), 2 * A.T, rng.standard_normal(A.shape), 1e-5)


def test_what_cannot_be_computed_is_nan():
    defective = jnp.asarray(jordan(6))
    assert jnp.all(jnp.isnan(_gradient(sum_of_squares)(defective)))
    assert jnp.all(jnp.isfinite(linalgx.eigvals(defective)))
    weight = jax.jit(jax.grad(lambda A: jnp.abs(linalgx.eig(A).eigenvectors[0, 0]) ** 2))
    second = jax.jit(lambda A, D: jax.jvp(jax.grad(sum_of_squares), (A,), (D,))[1])
    for A in (jordan(2), jordan(2, 0.0), jordan(2, 1.0, 0.1), jordan(2)[::-1, ::-1]):
        assert jnp.all(jnp.isnan(weight(jnp.asarray(A))))
        assert jnp.any(jnp.isnan(second(jnp.asarray(A), jnp.ones((2, 2)))))


@pytest.mark.parametrize(("dtype", "bad"), [("float32", np.nan), ("float64", np.inf), ("complex128", np.nan)])
def test_a_bad_member_spoils_only_itself(bad, dtype, rng):
    good = with_spectrum(rng, dtype, [1, 2, 4])
    A = np.stack([good, good, jordan(3).astype(dtype) * 0, jordan(3).astype(dtype), good])
    A[1, 0, 2] = bad
    l, V = linalgx.eig(jnp.asarray(A))
    for out in (l[..., None], V, linalgx.eigvals(jnp.asarray(A))[..., None]):
        assert jnp.all(jnp.isfinite(out[jnp.array([0, 2, 3, 4])]))
        assert jnp.all(jnp.isnan(out[1]))
    gradient = _gradient(lambda A: jnp.nansum(jnp.real(linalgx.eigvals(A) ** 2)))(jnp.asarray(A))
    for i in (0, 2, 4):
        np.testing.assert_allclose(gradient[i], 2 * A[i].T, atol=tolerance(dtype, 3, 50))
    weight = lambda A: jnp.sum(jnp.abs(linalgx.eig(A).eigenvectors) ** 4)
    np.testing.assert_allclose(
        _gradient(weight)(jnp.asarray(A))[0], _gradient(weight)(jnp.asarray(good)), atol=tolerance(dtype, 3, 50)
    )


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float64", 1e-150), ("float64", 1e150), ("float32", 1e-20), ("float32", 1e20), ("complex64", 1e15)],
)
def test_scales(dtype, scale, rng):
    """Wrong in jax.numpy.linalg: in float32 from 1e12 and below 1e-12."""
    values = np.array([1.0, 2.0, 4.0])
    A = with_spectrum(rng, dtype, values)
    scaled = jnp.asarray(A * np.asarray(scale, A.real.dtype))
    l, V = linalgx.eig(scaled)
    tol = tolerance(dtype, 3, 50)
    np.testing.assert_allclose(np.sort(np.asarray(l).real / scale), values, rtol=tol)
    np.testing.assert_allclose(np.sort(np.asarray(linalgx.eigvals(scaled)).real / scale), values, rtol=tol)
    np.testing.assert_allclose(A @ np.asarray(V), np.asarray(V * (l / scale)[None, :]), atol=tol)
    weight = lambda A: jnp.sum(jnp.abs(linalgx.eig(A).eigenvectors) ** 4)
    expected, found = _gradient(weight)(jnp.asarray(A)), _gradient(weight)(scaled) * scale
    np.testing.assert_allclose(found, expected, atol=tol * float(jnp.max(jnp.abs(expected))))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_against_torch(dtype, rng):
    torch = pytest.importorskip("torch")
    A = with_spectrum(rng, dtype, [2, 1 + 1j, -1])
    n = len(A)
    C = general(rng, "complex128", n, n)

    def loss(l, V, xp, C):
        P = (V * l[None, :]) @ V.conj().swapaxes(-1, -2)
        return xp.real(xp.sum(C * P)) + xp.sum(xp.abs(P) ** 2)

    X = torch.tensor(A)
    theirs = lambda X: loss(*torch.linalg.eig(X), torch, torch.tensor(C))
    ours = lambda A: loss(*linalgx.eig(A), jnp, C)
    gradient = torch.func.grad(theirs)(X)
    np.testing.assert_allclose(jnp.conj(_gradient(ours)(jnp.asarray(A))), gradient.numpy(), atol=1e-10)


def test_third_order(rng):
    """tr A^3 is a polynomial: its third derivative along D is 6 tr D^3."""
    A, D = (jnp.asarray(x) for x in (with_spectrum(rng, "float64", [2, 1 + 1j, -1]), general(rng, "float64", 4, 4)))
    along = lambda t: jnp.sum(jnp.real(linalgx.eigvals(A + t * D) ** 3))
    third = jax.jit(jax.jacfwd(jax.grad(jax.grad(along))))(0.0)
    np.testing.assert_allclose(third, 6 * jnp.trace(D @ D @ D), rtol=1e-8)
