"""The singular value decomposition: LAPACK's or cuSOLVER's; or, on a GPU, by the polar decomposition and one eigh.

A = U_p H with orthonormal U_p and positive semidefinite H = V S V^H, so that A = (U_p V) S V^H. All of this takes many
matrices at once, and its errors are of the size of eps. cuSOLVER's Jacobi method takes matrices of more than 32 rows
one by one, and stops early: its singular vectors are orthonormal to 500 eps at n = 64, and to 1e5 eps at n = 1024.

Sources: Nakatsukasa, Bai and Gygi (2010), "Optimizing Halley's iteration for computing the matrix polar
decomposition", SIAM J. Matrix Anal. Appl. 31; Nakatsukasa and Higham (2013), "Stable and efficient spectral divide and
conquer algorithms for the symmetric eigenvalue decomposition and the SVD", SIAM J. Sci. Comput. 35; Yamamoto,
Nakatsukasa, Yanagisawa and Fukaya (2015), "Roundoff error analysis of the CholeskyQR2 algorithm", Electron. Trans.
Numer. Anal. 44.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.batch_minor import extent
from linalgx._core.errors import nan_where, not_finite
from linalgx._core.loops import many_threads, replaced_members
from linalgx._core.matrix import H, diagonal, hermitian_part, identity, largest_entry, squared_modulus
from linalgx._kernels import lapack
from linalgx._kernels.exponents import power_of_two

JACOBI = 32
"""The rows and columns up to which cuSOLVER's Jacobi method takes the matrices of a batch at once."""

LARGE = 256
"""The rows from which on the polar decomposition pays for one matrix, too."""

MANY = 16
"""The matrices for which it is taken to pay whatever the shorter axis; of more than JACOBI rows 2 are enough."""


def svd(A: jax.Array, *, full_matrices: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, descending singular values, and V^H, as the platform computes them best; NaN if A is not finite."""
    if not many_threads.value:
        return lapack.svd(_refused_by_lapack(A), full_matrices=full_matrices)
    failed = not_finite(A)
    compute = _svd_by_polar if _polar_pays(A) else lapack.svd
    U, S, Vh = compute(jnp.where(failed[..., None, None], 0, A), full_matrices=full_matrices)
    return nan_where(failed, U), jnp.where(failed[..., None], jnp.nan, S), nan_where(failed, Vh)


def svdvals(A: jax.Array) -> jax.Array:
    """Descending singular values, likewise."""
    if not many_threads.value:
        return lapack.svdvals(_refused_by_lapack(A))
    failed = not_finite(A)
    S = (_svdvals_by_polar if _polar_pays(A) else lapack.svdvals)(jnp.where(failed[..., None, None], 0, A))
    return jnp.where(failed[..., None], jnp.nan, S)


def _refused_by_lapack(A: jax.Array) -> jax.Array:
    """A with NaN in the place of infinities: at NaN LAPACK, which scales A first, gives up, and jax.lax gives NaN.

    To look for it here would take a seventh of the time of the singular values of 64 x 64.
    """
    return A + 0 * A


def _polar_pays(A: jax.Array) -> bool:
    short, long = sorted(map(extent, A.shape[-2:]))
    least = 1 if short >= LARGE else 2 if short > JACOBI else MANY
    return many_threads.value and long > JACOBI and math.prod(map(extent, A.shape[:-2])) >= least


def _svd_by_polar(A: jax.Array, *, full_matrices: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    if A.shape[-2] < A.shape[-1]:
        V, S, Uh = _svd_by_polar(H(A), full_matrices=full_matrices)
        return H(Uh), S, H(V)
    polar, hermitian, unit = _scaled_polar(A)
    l, V = lapack.eigh(hermitian)
    S, V = jnp.flip(jnp.maximum(l, 0), axis=-1) * unit, jnp.flip(V, axis=-1)
    U, (m, n) = polar @ V, A.shape[-2:]
    if full_matrices and m > n:
        return _completed(U, m), S, H(V)
    (U,) = replaced_members(_has_short_column(U), lambda U: [_completed(U, n)], [U], [U])
    return U, S, H(V)


def _svdvals_by_polar(A: jax.Array) -> jax.Array:
    _, hermitian, unit = _scaled_polar(A if A.shape[-2] >= A.shape[-1] else H(A))
    return jnp.flip(jnp.maximum(lapack.eigvalsh(hermitian), 0), axis=-1) * unit


def _scaled_polar(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U_p and H of A / unit, and that power of two, with an axis for a spectrum."""
    unit = power_of_two(largest_entry(A))
    A = A * (1 / unit).astype(A.dtype)
    polar = _polar_factor(A)
    return polar, hermitian_part(H(polar) @ A), unit[..., 0]


def _polar_factor(A: jax.Array) -> jax.Array:
    """U_p for m >= n and entries near 1: U_p V is orthonormal but where a singular value is of the size of its errors.

    There the columns of U_p V are shorter than one, and orthogonal to those of all other singular values.
    """
    norm = jnp.sqrt(jnp.sum(squared_modulus(A), axis=(-2, -1), keepdims=True))
    U = A / jnp.where(norm == 0, 1, norm).astype(A.dtype)
    weights = list(_weights(extent(A.shape[-1]), float(jnp.finfo(A.dtype).eps)))
    first = sum(c > 100 for *_, c in weights)  # they descend
    return _steps(_steps(U, weights[:first], passes=2), weights[first:], passes=1)


def _steps(U: jax.Array, weights: list[tuple[float, float, float]], passes: int) -> jax.Array:
    def step(U: jax.Array, abc: jax.Array) -> tuple[jax.Array, None]:
        return _halley(U, *abc, passes=passes), None

    return lax.scan(step, U, jnp.asarray(weights, U.dtype).reshape(-1, 3))[0]


def _halley(U: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array, *, passes: int) -> jax.Array:
    """U (a I + b U^H U) (I + c U^H U)^-1, where nothing is solved with that has the condition of U squared.

    It is b/c U + (a - b/c)/sqrt(c) Q_1 Q_2^H with the QR decomposition [sqrt(c) U; I] = [Q_1; Q_2] R. Its condition is
    at most sqrt(c): Cholesky decompositions of Q^H Q, in as many passes, orthonormalise it.
    """
    m, root = U.shape[-2], jnp.sqrt(c)
    Q = jnp.concatenate([root * U, identity(U, U.shape[-1])], axis=-2)
    for _ in range(passes):
        L = lapack.cholesky(H(Q) @ Q)
        Q = lapack.solve_triangular(L, Q, lower=True, left=False, transpose="H")
    return b / c * U + (a - b / c) / root * (Q[..., :m, :] @ H(Q[..., m:, :]))


def _weights(n: int, eps: float) -> Iterator[tuple[float, float, float]]:
    """The a, b and c of all steps: those that bring singular values from eps to 1 the fastest.

    But the smallest one, l, counts as one with which two Cholesky decompositions make columns of the condition sqrt(c)
    orthonormal, or one if that is below 10: c is about 4^(1/3) l^(-4/3).
    """
    least = 2**0.5 * min(100 * n * eps, 0.01) ** 0.75
    l = eps
    while 1 - l > 10 * eps:
        a, b, c = _weights_of(max(l, least))
        yield a, b, c
        l = l * (a + b * l * l) / (1 + c * l * l)


def _weights_of(l: float) -> tuple[float, float, float]:
    """Those with which x (a + b x^2) / (1 + c x^2) is nearest to 1 in all of [l, 1]."""
    d = (4 * (1 - l * l) / l**4) ** (1 / 3)
    a = (1 + d) ** 0.5 + 0.5 * (8 - 4 * d + 8 * (2 - l * l) / (l * l * (1 + d) ** 0.5)) ** 0.5
    b = (a - 1) ** 2 / 4
    return a, b, a + b - 1


def _has_short_column(U: jax.Array) -> jax.Array:
    """The flag of the matrices with a column that is shorter than one."""
    return jnp.any(jnp.sum(squared_modulus(U), axis=-2) < 1 - 100 * float(jnp.finfo(U.dtype).eps), axis=-1)


def _completed(U: jax.Array, columns: int) -> jax.Array:
    """Orthonormal columns, the first of which are those of U that are so, up to the first that is short."""
    h, R, tau = lapack.geqrf(U)
    padding = [(0, 0)] * (U.ndim - 1) + [(0, columns - U.shape[-1])]
    Q = lapack.householder_product(jnp.pad(h, padding), tau)
    d = diagonal(R)[..., None, :]
    return Q * jnp.pad(jnp.where(d == 0, 1, jnp.sign(d)), padding, constant_values=1)
