"""The Hermitian eigendecomposition where the table cannot go: repeated and close eigenvalues, scales, NaN."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._kernels.select import prefer
from tests.operations.case import tolerance
from tests.operations.inputs import general, unitary

DTYPES = ["float32", "float64", "complex128"]
SCALES = [1e-8, 1.0, 1e8]
GAPS = [0.0, 1e-12, 1e-6]


def adjoint(X):
    return X.conj().swapaxes(-1, -2)


def hermitian_of(Q, values, dtype):
    A = (Q * values) @ adjoint(Q)
    return jnp.asarray(((A + adjoint(A)) / 2).astype(dtype))


def directions(rng, dtype, n):
    """Hermitian C to pair with, and any direction D, in the wide dtype."""
    wide = str(np.promote_types(dtype, np.float64))
    C = general(rng, wide, n, n)
    return C + adjoint(C), general(rng, wide, n, n)


def check_gradient(loss, A, right, D, tol, *rest):
    """Both modes give the Hermitian gradient ``right`` (in the pairing Re tr X^H Y)."""
    scale = np.linalg.norm(right)
    gradient, forward = _both_modes(loss, A, jnp.asarray(D.astype(A.dtype)), *rest)
    assert np.linalg.norm(gradient - right) <= tol * scale
    assert abs(forward - np.vdot(right, D).real) <= tol * scale * np.linalg.norm(D)


@functools.partial(jax.jit, static_argnums=0)
def _compiled(loss, A, D, *rest):
    of_A = lambda A: loss(A, *rest)
    return jnp.conj(jax.grad(of_A)(A)), jax.jvp(of_A, (A,), (D,))[1]


def _both_modes(*args):
    gradient, forward = _compiled(*args)
    return np.asarray(gradient), float(forward)


def divided(f, values):
    """(f(l_j) - f(l_i)) / (l_j - l_i) for f that is constant on each cluster: 0 inside it."""
    gaps = values[None, :] - values[:, None]
    steps = f[None, :] - f[:, None]
    return np.where(steps == 0, 0, steps / np.where(steps == 0, 1, gaps))


def inside_projector(A, inside, C):
    """<C, P>, where P is the projector onto the eigenvectors that are marked."""
    V = linalgx.eigh(A).eigenvectors
    return jnp.real(jnp.vdot(C, (V * inside[None, :].astype(V.dtype)) @ adjoint(V)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_projectors_onto_clusters(dtype, rng):
    eps = float(jnp.finfo(dtype).eps)
    Q = unitary(rng, dtype.replace("32", "64"), 6)
    C, D = directions(rng, dtype, 6)
    for gap, scale, columns in itertools.product(GAPS, SCALES, (slice(0, 1), slice(1, 4), slice(4, 6))):
        values = np.array([-2, 1 - gap, 1, 1 + gap, 2, 2 + gap]) * scale
        inside = np.zeros(6)
        inside[columns] = 1
        right = Q @ (divided(inside, values) * (adjoint(Q) @ C @ Q)) @ adjoint(Q)
        # a gap that is not taken for a tie costs eps / gap
        tol = tolerance(dtype, 6) + (16 * eps / gap if gap > eps ** (2 / 3) else 0.0)
        A = hermitian_of(Q, values, dtype)
        check_gradient(inside_projector, A, right, D, tol, jnp.asarray(inside), jnp.asarray(C.astype(dtype)))


def sum_of_cubes_by_eigh(A):
    return jnp.sum(linalgx.eigh(A).eigenvalues ** 3)


def sum_of_cubes(A):
    return jnp.sum(linalgx.eigvalsh(A) ** 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [sum_of_cubes, sum_of_cubes_by_eigh])
def test_sums_over_eigenvalues(loss, dtype, rng):
    Q = unitary(rng, dtype.replace("32", "64"), 5)
    _, D = directions(rng, dtype, 5)
    for scale, gap in itertools.product(SCALES, GAPS):
        values = np.array([-1, -1 - gap, 0.5, 2, 2 + gap]) * scale
        right = np.asarray((Q * 3 * values**2) @ adjoint(Q))
        check_gradient(loss, hermitian_of(Q, values, dtype), right, D, tolerance(dtype, 5))


@pytest.mark.parametrize("values", [[1, 1, 1], [1, 1, 2], [0, 0, 0], [0, 0, 1]], ids=str)
def test_exactly_diagonal(values, rng):
    values = np.asarray(values, float)
    C, D = directions(rng, "float64", 3)
    last = 1.0 * (values == max(values))
    right = divided(last, values) * C
    check_gradient(inside_projector, jnp.diag(values), right, D, 1e-14, jnp.asarray(last), jnp.asarray(C))
    check_gradient(sum_of_cubes, jnp.diag(values), np.diag(3 * values**2), D, 1e-14)


def test_simple_eigenvector_beside_repeated_ones(rng):
    """One eigenvector of a matrix of which other eigenvalues repeat: all NaN in jax.numpy.linalg."""
    A, D = jnp.diag(jnp.array([1.0, 1.0, 1.0, 2.0])), jnp.asarray(rng.standard_normal((4, 4)))
    v = lambda A: linalgx.eigh(A).eigenvectors[:, 3] * jnp.sign(linalgx.eigh(A).eigenvectors[3, 3])
    # dv = (2 - A)^+ dA v
    right = np.append((D + D.T)[:3, 3] / 2, 0.0)
    np.testing.assert_allclose(jax.jvp(v, (A,), (D,))[1], right, atol=1e-15)
    np.testing.assert_allclose(jnp.tensordot(jax.jacrev(v)(A), D), right, atol=1e-15)


def test_close_eigenvalues_are_told_apart(rng):
    """The gradient of <C, exp(A)>, put together from the parts, against divided differences."""
    Q = unitary(rng, "float64", 4)
    C, _ = directions(rng, "float64", 4)

    @jax.jit
    @jax.grad
    def gradient(A):
        l, V = linalgx.eigh(A)
        return jnp.sum(C * ((V * jnp.exp(l)[None, :]) @ V.T))

    for gap, accuracy in ((1e-4, 1e-11), (1e-6, 1e-9), (1e-8, 1e-7), (1e-10, 1e-5)):
        values = np.array([1, 1 + gap, 2, -1])
        gaps = values[None, :] - values[:, None]
        slopes = np.exp(values)[:, None] * np.where(gaps == 0, 1, np.expm1(gaps) / np.where(gaps == 0, 1, gaps))
        right = Q @ (slopes * (Q.T @ C @ Q)) @ Q.T
        found = gradient(hermitian_of(Q, values, "float64"))
        assert np.linalg.norm(found - right) <= accuracy * np.linalg.norm(right)


def test_a_gradient_of_zero_has_a_second_derivative(rng):
    """Nothing is taken for rounding error only because the cotangent is zero at the point."""
    A = hermitian_of(unitary(rng, "float64", 3), np.array([1.0, 2.0, 4.0]), "float64")
    P0 = (v := linalgx.eigh(A).eigenvectors[:, :1]) @ v.T
    D = hermitian_of(unitary(rng, "float64", 3), np.array([1.0, 2.0, -1.0]), "float64")
    along = lambda t: jnp.sum(((v := linalgx.eigh(A + t * D).eigenvectors[:, :1]) @ v.T - P0) ** 2)
    speed = jax.jvp(lambda t: (v := linalgx.eigh(A + t * D).eigenvectors[:, :1]) @ v.T, (0.0,), (1.0,))[1]
    for second in (jax.grad(jax.grad(along)), jax.jacfwd(jax.grad(along))):
        np.testing.assert_allclose(jax.jit(second)(0.0), 2 * jnp.sum(speed**2), rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float64", 1e-150), ("float64", 1e150), ("float32", 1e-20), ("float32", 1e8), ("float32", 1e20)],
)
def test_scales(dtype, scale, rng):
    values = np.array([1.0, 2.0, 4.0])
    Q = unitary(rng, "float64", 3)
    C, D = directions(rng, dtype, 3)
    A = hermitian_of(Q, values * scale, dtype)
    l, _ = linalgx.eigh(A)
    np.testing.assert_allclose(np.asarray(l, float) / scale, values, rtol=tolerance(dtype, 3))
    np.testing.assert_allclose(np.asarray(linalgx.eigvalsh(A), float) / scale, values, rtol=tolerance(dtype, 3))
    first = np.array([1.0, 0, 0])
    right = Q @ (divided(first, values) * (Q.T @ C @ Q)) @ Q.T
    loss = lambda B, inside, C: inside_projector(B * scale, inside, C)
    B = hermitian_of(Q, values, dtype)
    check_gradient(loss, B, right, D, tolerance(dtype, 3), jnp.asarray(first), jnp.asarray(C.astype(dtype)))


@pytest.mark.parametrize(("dtype", "bad"), [("float32", np.nan), ("float64", -np.inf), ("complex128", np.inf)])
def test_a_bad_member_spoils_only_itself(bad, dtype):
    A = np.stack([np.diag([1.0, 2.0, 3.0])] * 4).astype(dtype)
    A[1, 2, 0] = A[2, 0, 1] = A[3, 1, 1] = bad
    l, V = linalgx.eigh(jnp.asarray(A))
    for out in (l[..., None], V, linalgx.eigvalsh(jnp.asarray(A))[..., None]):
        assert jnp.all(jnp.isfinite(out[0]))
        assert jnp.all(jnp.isnan(out[1:]))
    gradient = jax.jit(jax.grad(lambda A: jnp.nansum(linalgx.eigvalsh(A) ** 2)))(jnp.asarray(A))
    np.testing.assert_allclose(gradient[0], 2 * A[0], rtol=tolerance(dtype, 3))
    # a triangle is all that is read
    assert jnp.all(jnp.isfinite(linalgx.eigh(jnp.asarray(A), UPLO="U").eigenvalues[jnp.array([0, 1])]))


def test_gradient_lies_in_the_triangle_that_is_read(rng):
    A = jnp.asarray(general(rng, "complex128", 4, 4))
    for options, outside in (
        ({"UPLO": "L"}, jnp.triu),
        ({"UPLO": "U"}, jnp.tril),
        ({"symmetrize_input": False}, jnp.triu),
    ):
        gradient = jax.jit(jax.grad(lambda A, options=options: linalgx.eigvalsh(A, **options)[0]))(A)
        assert jnp.all(outside(gradient, 1 if outside is jnp.triu else -1) == 0)
        assert jnp.all(jnp.imag(jnp.diagonal(gradient)) == 0)


def test_eigenvalues_alone_divide_by_nothing():
    A = jnp.eye(3)
    for function in (linalgx.eigvalsh, lambda A: linalgx.eigh(A).eigenvalues):
        text = str(jax.make_jaxpr(jax.grad(lambda A, function=function: function(A).sum()))(A))
        assert " div " not in text


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_against_torch(dtype, rng):
    torch = pytest.importorskip("torch")
    A = np.asarray(hermitian_of(unitary(rng, dtype, 4), np.array([-1.0, 0.5, 2.0, 3.0]), dtype))
    C, _ = directions(rng, dtype, 4)
    X = torch.tensor(A, requires_grad=True)
    l, V = torch.linalg.eigh(X)
    ((l**3).sum() + (torch.tensor(C) * (V[:, :2] @ V[:, :2].mH)).sum().real).backward()
    loss = lambda A: (
        jnp.sum((out := linalgx.eigh(A))[0] ** 3) + jnp.real(jnp.sum(C * (out[1][:, :2] @ adjoint(out[1][:, :2]))))
    )
    np.testing.assert_allclose(jnp.conj(jax.jit(jax.grad(loss))(jnp.asarray(A))), X.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("n", [4, 9, 20])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e28), ("complex64", 1e36), ("float64", 1e300)])
def test_one_entry_of_another_size(dtype, size, n, rng) -> None:
    """LAPACK itself gives NaN for some of these."""
    for _ in range(5):
        A = general(rng, dtype, n, n)
        A = A + adjoint(A)
        A[0, -1] = A[-1, 0] = size
        for l in (linalgx.eigh(jnp.asarray(A)).eigenvalues, linalgx.eigvalsh(jnp.asarray(A))):
            np.testing.assert_allclose([l[0], l[-1]], [-size, size], rtol=tolerance(dtype, n))
            assert np.all(np.isfinite(l))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_eigenvalues_of_large_matrices(dtype, rng) -> None:
    """Which are reduced to tridiagonal matrices apart."""
    A = general(rng, dtype, 2, 256, 256)
    A = A + adjoint(A)
    A[1] = 0
    expected = np.linalg.eigvalsh(A.astype(np.promote_types(dtype, np.float64)))
    for ours in (linalgx.eigvalsh(jnp.asarray(A)), jnp.stack([linalgx.eigvalsh(jnp.asarray(X)) for X in A])):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance(dtype, 256) * np.abs(expected).max())


@pytest.mark.parametrize(("count", "n"), [(1, 64), (100, 33)], ids=["one", "many"])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64"])
def test_one_nan_is_never_lost(dtype, count, n, rng) -> None:
    """Wherever it stands: XLA shares out the search for it among cores, and finds the largest number without it."""
    A = general(rng, dtype, count, n, n)
    A[np.arange(count), rng.integers(0, n, count), rng.integers(0, n, count)] = np.nan
    A = jnp.asarray(A[0] if count == 1 else A)
    for function in (linalgx.eigh, linalgx.eigvalsh, linalgx.eig, linalgx.eigvals, linalgx.svd, linalgx.svdvals):
        for out in jax.tree.leaves(function(A)):
            assert np.all(np.isnan(out)), function.__name__


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("n", [3, 4, 8])
def test_every_kernel_tells_the_rank_of_indefinite_matrices(n, dtype, rng) -> None:
    """Eigenvalues are exact to the tolerance of the rank, whichever the signs."""
    U = rng.integers(-2, 3, (3000, n, n - 1)).astype(dtype)
    A = jnp.asarray((U * np.resize([1, -1, 1], n - 1).astype(dtype)) @ adjoint(U))
    right = np.linalg.matrix_rank(np.asarray(A, np.promote_types(dtype, np.float64)))
    for kernel in ("batch_minor", "lapack"):
        with prefer(kernel):
            np.testing.assert_array_equal(linalgx.matrix_rank(A, hermitian=True), right)


@pytest.mark.parametrize("kernel", ["batch_minor", "lapack"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_projectors_of_many_matrices(kernel, dtype, rng) -> None:
    """The gradient of a projector on a fourfold eigenvalue, of 2000 indefinite matrices: none is taken for a gap."""
    n, values = 8, np.array([-1.0, 0, 0, 0, 0, 0.5, 1, 2])
    Q = np.linalg.qr(general(rng, str(np.promote_types(dtype, np.float64)), 2000, n, n))[0]
    C = np.diag(np.arange(8.0))
    P, rest = Q[:, :, 1:5] @ adjoint(Q[:, :, 1:5]), (Q / np.where(values == 0, -np.inf, -values)) @ adjoint(Q)
    right = P @ C @ rest + rest @ C @ P

    def pairing(A):
        V = linalgx.eigh(A).eigenvectors[..., 1:5]
        return jnp.sum(jnp.real(jnp.conj(V) * linalgx.matmul(jnp.asarray(C.astype(dtype)), V)))

    with prefer(kernel):
        gradient = np.conj(jax.grad(pairing)(hermitian_of(Q, values, dtype)))
    assert np.abs(gradient - right).max() <= 100 * tolerance(dtype, n)
