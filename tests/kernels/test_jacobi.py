"""The batch-minor kernels of the eigendecomposition and the SVD: every kind of spectrum and scale, signs, failures."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from linalgx._core import loops
from linalgx._core.matrix import FIRST_PRIMES, normalise_phases
from linalgx._kernels.batch_minor.eigh import eigh, eigvalsh
from linalgx._kernels.batch_minor.svd import svd, svdvals
from linalgx.decompositions.eigh import _eigh
from linalgx.decompositions.svd import _svd
from tests.operations.inputs import general, unitary

DTYPES = ["float32", "float64", "complex64", "complex128"]
ORDERS = [("float64", n) for n in (1, 2, 3, 5, 8, 12)]
ORDERS += [("float32", 2), ("float32", 7), ("complex64", 4), ("complex128", 2), ("complex128", 5)]
SHAPES = [("float64", (1, 1)), ("float64", (2, 2)), ("float64", (8, 8)), ("float64", (3, 7)), ("float64", (1, 4))]
SHAPES += [
    ("float32", (6, 2)),
    ("float32", (7, 8)),
    ("float32", (9, 12)),
    ("complex64", (3, 4)),
    ("complex128", (2, 2)),
    ("complex128", (5, 3)),
]


@pytest.fixture(autouse=True)
def _as_in_an_operation():
    with jax.numpy_rank_promotion("allow"):
        yield


def run(kernel, a, **options):
    """The kernel on a batch that leads, results in the wide dtype."""
    results = _compiled(functools.partial(kernel, **options), jnp.moveaxis(jnp.asarray(a), 0, -1))
    return jax.tree.map(lambda x: np.moveaxis(wide(np.asarray(x)), -1, 0), results)


@functools.partial(jax.jit, static_argnums=0)
def _compiled(kernel, a):
    return kernel(a)


def wide(x):
    return x.astype(np.promote_types(x.dtype, np.float64))


def adjoint(X):
    return X.conj().swapaxes(-1, -2)


def spectra(n, dtype):
    """Rows of n values; signs are the caller's."""
    eps = float(jnp.finfo(dtype).eps)
    i = np.arange(n)
    return np.array(
        [
            0.1 + i,
            eps ** (i / max(n - 1, 1)),
            eps ** (2 * i / max(n - 1, 1)),
            1 + 4 * eps * i,
            1 + np.sqrt(eps) * i,
            1.0 + (i > n // 2),
            np.ones(n),
            np.zeros(n),
            i == 0,
            i < 2,
        ],
        float,
    )


def bound(a, factor=1.0):
    """n eps times the norm of each matrix."""
    n = max(a.shape[-2:])
    return factor * n * float(jnp.finfo(a.dtype).eps) * np.linalg.norm(wide(a), axis=(-2, -1))


def defect(Q):
    """The distance of Q^H Q from the identity."""
    return np.abs(adjoint(Q) @ Q - np.eye(Q.shape[-1])).max(axis=(-2, -1))


def matrices(rng, dtype, m, n):
    """A batch of every spectrum, in random bases and in the basis of the coordinates; integers, Hilbert, random."""
    double = str(np.promote_types(dtype, np.float64))
    k = min(m, n)
    values = spectra(k, dtype)
    U, V = (np.stack([unitary(rng, double, size)[:, :k] for _ in values]) for size in (m, n))
    turned = (U * values[:, None, :]) @ adjoint(V)
    diagonal = np.eye(m, k) * values[:, None, :] @ np.eye(k, n)
    hilbert = 1 / (1 + np.arange(m)[:, None] + np.arange(n)[None, :])
    special = np.stack([hilbert, np.ones((m, n)), np.arange(m * n).reshape(m, n), np.eye(m, n)[::-1]])
    return np.concatenate([turned, diagonal, special, general(rng, double, 20, m, n)]).astype(dtype)


def hermitian_matrices(rng, dtype, n):
    """A batch of every spectrum with signs and without."""
    double = str(np.promote_types(dtype, np.float64))
    values = spectra(n, dtype)
    values = np.concatenate([values, -values, values * (-1.0) ** np.arange(n)])
    Q = np.stack([unitary(rng, double, n) for _ in values])
    turned, diagonal = (Q * values[:, None, :]) @ adjoint(Q), np.eye(n) * values[:, None, :]
    A = np.concatenate([turned, diagonal, matrices(rng, dtype, n, n).astype(double)])
    return ((A + adjoint(A)) / 2).astype(dtype)


NAMES = ["eigh", "eigvalsh", "svd", "svdvals"]


@pytest.mark.parametrize(("dtype", "n"), ORDERS)
def test_eigh_of_every_spectrum(dtype, n, rng):
    a = hermitian_matrices(rng, dtype, n)
    l, V = run(eigh, a)
    eps = float(jnp.finfo(dtype).eps)
    assert np.all(np.diff(l) >= 0)
    assert np.max(defect(V)) <= 4 * n * eps
    assert np.all(np.linalg.norm((V * l[:, None, :]) @ adjoint(V) - wide(a), axis=(-2, -1)) <= bound(a, 8))
    right = np.linalg.eigvalsh(wide(a))
    assert np.all(np.abs(l - right).max(-1) <= bound(a, 8))
    assert np.all(np.abs(run(eigvalsh, a) - right).max(-1) <= bound(a, 8))


@pytest.mark.parametrize(("dtype", "shape", "full"), [(*case, i % 2 == 1) for i, case in enumerate(SHAPES)], ids=str)
def test_svd_of_every_spectrum(dtype, shape, full, rng):
    a = matrices(rng, dtype, *shape)
    U, S, Vh = run(svd, a, full_matrices=full)
    k, eps = min(shape), float(jnp.finfo(dtype).eps)
    assert U.shape[1:] == (shape[0], shape[0] if full else k)
    assert Vh.shape[1:] == (shape[1] if full else k, shape[1])
    assert np.all(np.diff(S) <= 0)
    assert np.all(S >= 0)
    assert np.max(defect(U)) <= 4 * max(shape) * eps
    assert np.max(defect(adjoint(Vh))) <= 4 * max(shape) * eps
    residual = (U[..., :k] * S[:, None, :]) @ Vh[:, :k] - wide(a)
    assert np.all(np.linalg.norm(residual, axis=(-2, -1)) <= bound(a, 4))
    right = np.linalg.svd(wide(a), compute_uv=False)
    assert np.all(np.abs(S - right).max(-1) <= bound(a, 4))
    assert np.all(np.abs(run(svdvals, a) - right).max(-1) <= bound(a, 4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [eigh, eigvalsh, functools.partial(svd, full_matrices=False), svdvals], ids=NAMES)
def test_scales_by_powers_of_two_exactly(kernel, dtype, rng):
    exponents = np.arange(-100, 120, 20) if dtype == "float32" else np.arange(-960, 1000, 120)
    a = general(rng, dtype, 3, 3) / 8
    a = a + a.T
    scales = np.array([2.0 ** int(e) for e in exponents])
    unscaled = int(np.argmax(exponents == 0))  # of the same program: in another one XLA may round otherwise
    for many in jax.tree.leaves(run(kernel, (a * scales[:, None, None]).astype(dtype))):
        values = many.ndim == 2
        expected = np.broadcast_to(many[unscaled], many.shape)
        np.testing.assert_array_equal(many / scales[:, None] if values else many, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("extreme", ["smallest", "largest"])
def test_entries_at_the_ends_of_the_range(extreme, dtype):
    numbers = jnp.finfo(dtype)
    size = float(numbers.tiny) * 4 if extreme == "smallest" else float(numbers.max) / 4
    a = (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 2]]) * size).astype(dtype)[None]
    tol = 8 * float(numbers.eps)
    np.testing.assert_allclose(run(eigh, a)[0] / size, [[-1, 1, 2]], rtol=tol)
    np.testing.assert_allclose(run(svd, a, full_matrices=True)[1] / size, [[2, 1, 1]], rtol=tol)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("kernel", [eigh, eigvalsh, functools.partial(svd, full_matrices=True), svdvals], ids=NAMES)
@pytest.mark.parametrize("n", [2, 3])
def test_failure_stays_in_its_matrix(n, kernel, dtype, rng):
    a = general(rng, dtype, 7, n, n)
    bad = a.copy()
    bad[1, 0, n - 1], bad[2, 0, 0], bad[5, n - 1, 0] = np.nan, np.inf, -np.inf
    for x, y in zip(jax.tree.leaves(run(kernel, bad)), jax.tree.leaves(run(kernel, a)), strict=True):
        assert np.all(np.isnan(x[[1, 2, 5]]))
        np.testing.assert_array_equal(x[[0, 3, 4, 6]], y[[0, 3, 4, 6]])


@pytest.mark.parametrize("size", [0, 1, 300])
def test_a_batch_in_parts(size, rng, monkeypatch):
    """Rotations of a part go on until all its members have converged: results may differ by rounding."""
    a = general(rng, "float64", size, 4, 3)
    whole = run(svd, a, full_matrices=True)
    monkeypatch.setattr(loops, "PART", 48)
    for x, y in zip(run(svd, a, full_matrices=True), whole, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-13)


def _exactly(function, a):
    """The values that mpmath finds, ascending."""
    with mpmath.workdps(150):
        return np.sort(np.array([float(x) for x in function(mpmath.matrix(a.tolist()))]))


def graded(rng, n):
    """D B D with a well-conditioned positive definite B, and its D."""
    X = general(rng, "float64", n, n)
    B = X @ X.T + n * np.eye(n)
    d = 10.0 ** rng.permutation(np.linspace(-20, 20, n))
    A = B * d[:, None] * d[None, :]
    return np.tril(A) + np.tril(A, -1).T


@pytest.mark.parametrize("n", [2, 4])
def test_small_eigenvalues_of_positive_definite_matrices(n, rng):
    a = np.stack([graded(rng, n) for _ in range(5)])
    right = np.stack([_exactly(lambda A: mpmath.eigsy(A, eigvals_only=True), x) for x in a])
    for l in (run(eigh, a)[0], run(eigvalsh, a)):
        np.testing.assert_allclose(l, right, rtol=50 * n * np.finfo(float).eps)


def test_small_singular_values_of_scaled_columns(rng):
    a = general(rng, "float64", 5, 4, 4) + 4 * np.eye(4)
    a = a * 10.0 ** np.array([0, -60, -20, -40])
    right = np.stack([_exactly(lambda A: mpmath.svd_r(A, compute_uv=False), x) for x in a])
    for S in (run(svd, a, full_matrices=False)[1], run(svdvals, a)):
        np.testing.assert_allclose(S[:, ::-1], right, rtol=200 * np.finfo(float).eps)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 4, 12])
def test_eigenvectors_have_the_phases_of_the_general_path(n, dtype, rng):
    a = general(rng, dtype, 20, n, n)
    V, right = run(eigh, a)[1], np.asarray(_eigh(jnp.asarray(a))[1])
    np.testing.assert_allclose(V, right, atol=1e-11)
    assert np.all(_sums(V).real > 0)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (3, 1), (11, 12)], ids=str)
def test_singular_vectors_have_the_phases_of_the_general_path(shape, dtype, rng):
    a = general(rng, dtype, 20, *shape)
    # the columns beyond the rank are unique, but for the phase, if there is one of them
    full = abs(shape[0] - shape[1]) <= 1
    if shape[0] == shape[1]:
        a[:5, :, -1] = 0
    results, right = run(svd, a, full_matrices=full), _svd(jnp.asarray(a), full_matrices=full)
    for x, y in zip(results, right, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-11)


def _sums(V):
    weights = np.sqrt(FIRST_PRIMES[: V.shape[-2]])
    return np.einsum("i,bij->bj", weights, V)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalised_phases(dtype, rng):
    X = general(rng, dtype, 4, 3, 2)
    X[0, :, 0] = 0
    Y = wide(np.asarray(normalise_phases(jnp.asarray(X))))
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.abs(Y), np.abs(wide(X)), rtol=8 * eps, atol=0)
    np.testing.assert_allclose(_sums(Y), np.abs(_sums(wide(X))), atol=64 * eps)
