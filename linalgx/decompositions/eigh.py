"""The eigendecomposition of a Hermitian matrix, A = V diag(l) V^H, and its derivatives.

Sources: Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 3.1; Magnus (1985), "On differentiating eigenvalues and eigenvectors", Econometric Theory 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import public, require_option, square_matrix
from linalgx._core.batch_minor import LARGEST, extent
from linalgx._core.errors import info_of_spectrum, nan_where, report
from linalgx._core.matrix import (
    H,
    diagonal,
    hermitian_from_triangle,
    hermitian_part,
    normalise_phases,
    reciprocal_gaps,
    skew_part,
)
from linalgx._core.operation import Operation
from linalgx._core.results import EighResult
from linalgx._kernels import lapack
from linalgx._kernels.select import small_kernel


@public("UPLO", "symmetrize_input")
def eigh(a: ArrayLike, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues and eigenvectors of a Hermitian matrix: A = V diag(l) V^H.

    Args:
        a: shape (..., n, n), real or complex. Its Hermitian part (A + A^H)/2 is decomposed.
        UPLO: "L" or "U": read only that triangle (and the real part of the diagonal), as NumPy and torch do.
        symmetrize_input: if False, read only the triangle ``UPLO``, or the lower one.

    Returns:
        ``eigenvalues``, real, ascending, shape (..., n), and ``eigenvectors``, orthonormal columns, shape
        (..., n, n), in the promoted dtype of a. Up to n = 12 the phase (sign) of an eigenvector v makes
        sum_j sqrt(p_j) v_j, with the primes p_j, real and positive.

    Raises:
        ValueError: if the last two axes of a differ or UPLO is unknown.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in all of the result of each matrix that holds a NaN or an infinity or that LAPACK did not converge on, and
        in no other.

    Derivatives:
        both modes, every order. The gradient is Hermitian (with a triangle, it lies in that triangle). Eigenvectors
        are unique but for a phase (a sign, for real a), and at a repeated eigenvalue but for the basis of its
        eigenspace: a function must not depend on these. Then its first derivatives are right also at repeated
        eigenvalues: sums of functions of eigenvalues, projectors onto eigenspaces, eigenvectors of simple
        eigenvalues beside repeated ones. There, functions f(A) = V f(l) V^H put together from the parts are not,
        nor are second derivatives of the eigenvalues: both lack the terms inside the eigenspace.
        A function that tells close eigenvalues apart loses digits as eps / gap (relative to the largest): at gap
        1e-6 in float64 ten digits of the derivative of f(A) are right, at 1e-10 six. From 4e-11 (2e-5 in float32)
        on, eigenvalues count as repeated.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eigh(jnp.array([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
        Array([1., 2.], dtype=float32)

    Source:
        Giles (2008), section 3.1.
    """
    A = _read("eigh", a, UPLO, symmetrize_input)
    l, V = eigh_p(A)
    report("eigh", "", info_of_spectrum, A, l)
    return EighResult(l, V)


@public("UPLO", "symmetrize_input")
def eigvalsh(a: ArrayLike, UPLO: str | None = None, *, symmetrize_input: bool = True) -> jax.Array:
    """Eigenvalues of a Hermitian matrix.

    Args:
        a: shape (..., n, n), real or complex. The eigenvalues of its Hermitian part (A + A^H)/2 are computed.
        UPLO: "L" or "U": read only that triangle (and the real part of the diagonal), as NumPy and torch do.
        symmetrize_input: if False, read only the triangle ``UPLO``, or the lower one.

    Returns:
        The eigenvalues, real, ascending, shape (..., n).

    Raises:
        ValueError: if the last two axes of a differ or UPLO is unknown.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in all eigenvalues of each matrix that holds a NaN or an infinity or that LAPACK did not converge on, and in
        no other.

    Derivatives:
        both modes, every order; the first divides by no gap: it is right for every symmetric function of the
        eigenvalues also where they repeat. Second derivatives there lack the terms inside the eigenspace.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eigvalsh(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        Array([1., 2.], dtype=float32)

    Source:
        Giles (2008), section 3.1.
    """
    A = _read("eigvalsh", a, UPLO, symmetrize_input)
    l = eigvalsh_p(A)
    report("eigvalsh", "", info_of_spectrum, A, l)
    return l


def _read(function: str, a: ArrayLike, UPLO: str | None, symmetrize: bool) -> jax.Array:
    require_option(function, "UPLO", UPLO, (None, "L", "U", "l", "u"))
    A = square_matrix(function, a=a)
    if UPLO is None and symmetrize:
        return A
    return hermitian_from_triangle(A, lower=UPLO not in ("U", "u"))


# --- Eigenvalues and eigenvectors: A = V diag(l) V^H


def _eigh(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    A, unit, failed = lapack.scaled(A)
    l, V = lapack.eigh(hermitian_part(A))
    if extent(A.shape[-1]) <= LARGEST:
        V = normalise_phases(V)
    return lapack.restored(l, unit, failed), nan_where(failed, V)


eigh_p = Operation("eigh", _eigh, small=small_kernel("eigh"))


# Rules (Giles 2008). Differentiate A V = V diag(l) and multiply by V^H; with the Hermitian M = V^H dA V,
# F_ij = 1 / (l_j - l_i) off the diagonal, and the phase of each vector such that v_i^H dv_i = 0:
#   forward   dl = diag(M),   dV = V (F o M)
#   reverse   A_bar = V [F o K + diag(l_bar)] V^H,   K = skew part of V^H V_bar
# F is real and antisymmetric: the part of F o (V^H V_bar) that pairs with the Hermitian M is F o K.


def _eigh_fwd(A):
    l, V = eigh_p(A)
    return (l, V), (l, V)


def _eigh_bwd(residuals, cotangents):
    l, V = residuals
    l_bar, V_bar = cotangents
    if V_bar is None:
        return _eigvalsh_bwd((V,), l_bar)
    core = reciprocal_gaps(l).astype(V.dtype) * skew_part(H(V) @ V_bar)
    VC = V @ core if l_bar is None else V @ core + V * _in_row(l_bar, V)
    return (hermitian_part(VC @ H(V)),)


def _eigh_jvp(residuals, dA):
    l, V = residuals
    M = H(V) @ (hermitian_part(dA) @ V)
    return jnp.real(diagonal(M)), V @ (reciprocal_gaps(l).astype(V.dtype) * M)


eigh_p.defvjp(_eigh_fwd, _eigh_bwd)
eigh_p.defjvp(_eigh_jvp, source="Giles (2008), Collected matrix derivative results, section 3.1")


# --- Eigenvalues alone


def _eigvalsh(A: jax.Array) -> jax.Array:
    A, unit, failed = lapack.scaled(A)
    return lapack.restored(lapack.eigvalsh(hermitian_part(A)), unit, failed)


eigvalsh_p = Operation("eigvalsh", _eigvalsh, small=small_kernel("eigvalsh"))


# Rules: those above without V_bar and dV.
#   forward   dl_i = v_i^H dA v_i
#   reverse   A_bar = V diag(l_bar) V^H


def _eigvalsh_fwd(A):
    l, V = eigh_p(A)
    return l, (V,)


def _eigvalsh_bwd(residuals, l_bar):
    (V,) = residuals
    return (hermitian_part((V * _in_row(l_bar, V)) @ H(V)),)


def _eigvalsh_jvp(residuals, dA):
    (V,) = residuals
    return jnp.real(jnp.sum(jnp.conj(V) * (hermitian_part(dA) @ V), axis=-2))


eigvalsh_p.defvjp(_eigvalsh_fwd, _eigvalsh_bwd)
eigvalsh_p.defjvp(_eigvalsh_jvp, source="Giles (2008), Collected matrix derivative results, section 3.1")


def _in_row(d: jax.Array, X: jax.Array) -> jax.Array:
    """The real vector ``d`` as a row that scales the columns of ``X``."""
    return d[..., None, :].astype(X.dtype)
