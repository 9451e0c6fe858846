"""The eigendecomposition of a general square matrix, A V = V diag(l), and its derivatives.

Sources: Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 3.1 (without a norm for the eigenvectors); Boeddeker, Hanebrink, Drude, Heymann and
Haeb-Umbach (2017), "On the computation of complex-valued gradients with application to statistically optimum
beamforming", arXiv:1701.00392, section 4.7 (eigenvectors of unit length); Golub and Van Loan, "Matrix Computations",
section 7.2 (the condition of an eigenvalue).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import public, square_matrix
from linalgx._core.errors import nan_where, not_finite
from linalgx._core.matrix import H, T, diagonal, reciprocal_gaps
from linalgx._core.operation import Operation
from linalgx._core.results import EigResult
from linalgx._kernels import lapack


@public()
def eig(a: ArrayLike) -> EigResult:
    """Eigenvalues and right eigenvectors of a square matrix: A V = V diag(l).

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        ``eigenvalues``, shape (..., n), in no particular order, and ``eigenvectors``, columns of unit length, shape
        (..., n, n); both always complex.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN in all of the result of each matrix that holds a NaN or an infinity, and in no other.

    Derivatives:
        both modes, every order. Eigenvectors are unique but for a phase, and at a repeated eigenvalue but for the
        basis of its eigenspace: a function must not depend on these. Then its first derivatives are right also at
        repeated eigenvalues of a diagonalisable matrix: sums of functions of eigenvalues, projectors onto
        eigenspaces. Functions V f(l) V^-1 put together from the parts are not at repeated eigenvalues, for want of
        information on f. At a defective matrix (a Jordan block), and so near one that less than a quarter of the
        digits would be right, all derivatives are NaN: they cannot be had from V.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eig(jnp.array([[2.0, 0.0], [1.0, 2.5]])).eigenvalues
        Array([2.5+0.j, 2. +0.j], dtype=complex64)

    Source:
        Boeddeker et al. (2017), arXiv:1701.00392, section 4.7.
    """
    l, V, _ = eig_p(square_matrix("eig", a=a))
    return EigResult(l, V)


@public()
def eigvals(a: ArrayLike) -> jax.Array:
    """Eigenvalues of a square matrix.

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        The eigenvalues, always complex, in no particular order, shape (..., n).

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.

    On failure:
        NaN in all eigenvalues of each matrix that holds a NaN or an infinity, and in no other.

    Derivatives:
        both modes, every order; the first divides by no gap, so that it is right for every symmetric function of
        the eigenvalues also where they repeat, if the matrix is diagonalisable. At a defective matrix, and so near
        one that less than a quarter of the digits would be right, it is NaN.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eigvals(jnp.array([[0.0, 1.0], [-1.0, 0.0]])).round(3)
        Array([0.+1.j, 0.-1.j], dtype=complex64)

    Source:
        Giles (2008), section 3.1.
    """
    return eigvals_p(square_matrix("eigvals", a=a))


# --- Eigenvalues, eigenvectors and the inverse of these: A = V diag(l) W, W V = I


def _eig(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    A, scale, failed = _prepare(A)
    l, V = lapack.eig(A)
    W = lapack.inverse(V)
    # |w_i| is the condition of l_i: how much faster than A it moves; without bound at a defective matrix
    condition = jnp.max(jnp.linalg.norm(W, axis=-1), axis=-1, initial=0)
    useless = failed | ~(condition <= jnp.finfo(A.dtype).eps ** -0.75)
    return _restore(l, scale, failed), nan_where(failed, V), nan_where(useless, W)


def _prepare(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A in the range where LAPACK is right, the power of two by which it was divided, and the failed members.

    Through jax.lax, eigenvalues are wrong where LAPACK scales by itself: from 1e12 in single precision.
    """
    failed = not_finite(A)
    A = jnp.where(failed[..., None, None], 0, A)
    largest = jnp.max(jnp.maximum(jnp.abs(jnp.real(A)), jnp.abs(jnp.imag(A))), axis=(-2, -1), initial=0)
    limit = jnp.finfo(A.dtype).maxexp - 28
    exponent = jnp.clip(jnp.frexp(largest)[1], -limit, limit)
    scale = jnp.ldexp(jnp.ones_like(largest), exponent)
    return A * (1 / scale)[..., None, None].astype(A.dtype), scale, failed


def _restore(l: jax.Array, scale: jax.Array, failed: jax.Array) -> jax.Array:
    return jnp.where(failed[..., None], jnp.nan, l * scale[..., None].astype(l.dtype))


eig_p = Operation("eig", _eig)


# Rules (Boeddeker et al. 2017, section 4.7). Differentiate A V = V diag(l), with dV = V X and dW = -X W:
#   W dA V = diag(dl) + X diag(l) - diag(l) X
# gives dl and, with F_ij = 1 / (l_j - l_i), X off the diagonal. That v_j keeps its length and its phase is free
# gives the diagonal: with Z = F o (W dA V), which has none,
#   forward   dl = diag(W dA V),   X = Z - diag(r),   r = Re diag(V^H V Z)
# The cotangent of X is Y = V^H V_bar - W_bar W^H, of which r takes the real part of the diagonal, s = Re diag(Y):
#   reverse   A_bar = W^H [conj(F) o (Y - V^H V diag(s)) + diag(l_bar)] V^H


def _eig_fwd(A):
    l, V, W = eig_p(A)
    return (l, V, W), (l, V, W)


def _eig_bwd(residuals, cotangents):
    l, V, W = residuals
    l_bar, V_bar, W_bar = cotangents
    if V_bar is None and W_bar is None:
        return _eigvals_bwd((V, W), l_bar)
    V_bar = jnp.zeros_like(V) if V_bar is None else V_bar
    W_side = jnp.zeros_like(W) if W_bar is None else W_bar @ H(W)
    s = jnp.real(jnp.sum(jnp.conj(V) * V_bar, axis=-2) - diagonal(W_side)).astype(V.dtype)
    core = jnp.conj(reciprocal_gaps(l)) * (H(V) @ (V_bar - V * s[..., None, :]) - W_side)
    CV = core @ H(V)
    return (H(W) @ (CV if l_bar is None else CV + l_bar[..., None] * H(V)),)


def _eig_jvp(residuals, dA):
    l, V, W = residuals
    M = W @ (dA.astype(V.dtype) @ V)
    Z = reciprocal_gaps(l) * M
    VZ = V @ Z
    r = jnp.real(jnp.sum(jnp.conj(V) * VZ, axis=-2)).astype(V.dtype)
    return diagonal(M), VZ - V * r[..., None, :], r[..., None] * W - Z @ W


eig_p.defvjp(_eig_fwd, _eig_bwd)
eig_p.defjvp(_eig_jvp, source="Boeddeker et al. (2017), arXiv:1701.00392, section 4.7")


# --- Eigenvalues alone


def _eigvals(A: jax.Array) -> jax.Array:
    A, scale, failed = _prepare(A)
    return _restore(lapack.eigvals(A), scale, failed)


eigvals_p = Operation("eigvals", _eigvals)


# Rules: those above without V_bar, W_bar, dV and dW. With the columns v_i of V and the rows w_i of W:
#   forward   dl_i = w_i dA v_i
#   reverse   A_bar = W^H diag(l_bar) V^H


def _eigvals_fwd(A):
    l, V, W = eig_p(A)
    return l, (V, W)


def _eigvals_bwd(residuals, l_bar):
    V, W = residuals
    return (H(W) @ (l_bar[..., None] * H(V)),)


def _eigvals_jvp(residuals, dA):
    V, W = residuals
    return jnp.sum(T(W) * (dA.astype(V.dtype) @ V), axis=-2)


eigvals_p.defvjp(_eigvals_fwd, _eigvals_bwd)
eigvals_p.defjvp(_eigvals_jvp, source="Giles (2008), Collected matrix derivative results, section 3.1")
