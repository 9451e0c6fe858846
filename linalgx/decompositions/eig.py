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
from linalgx._core.errors import info_of_spectrum, nan_where, report
from linalgx._core.loops import as_it_lies, replaced_members
from linalgx._core.matrix import H, T, diagonal, identity, larger_of_pair, reciprocal_gaps
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
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in all of the result of each matrix that holds a NaN or an infinity or that LAPACK did not converge on, and
        in no other.

    Derivatives:
        both modes, every order. Eigenvectors are unique but for a phase, and at a repeated eigenvalue but for the
        basis of its eigenspace: a function must not depend on these. Then its first derivatives are right also at
        repeated eigenvalues of a diagonalisable matrix: sums of functions of eigenvalues, projectors onto
        eigenspaces. There, functions V f(l) V^-1 put together from the parts are not, nor are second derivatives of
        the eigenvalues: both lack the terms inside the eigenspace. Eigenvectors of a defective matrix (a Jordan
        block) have no derivative: NaN, as also where two eigenvalues are too close to tell whether it is defective.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eig(jnp.array([[2.0, 0.0], [1.0, 2.5]])).eigenvalues
        Array([2.5+0.j, 2. +0.j], dtype=complex64)

    Source:
        Boeddeker et al. (2017), arXiv:1701.00392, section 4.7.
    """
    A = square_matrix("eig", a=a)
    l, V = eig_p(A)
    report("eig", "", info_of_spectrum, A, l)
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
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in all eigenvalues of each matrix that holds a NaN or an infinity or that LAPACK did not converge on, and in
        no other.

    Derivatives:
        both modes, every order; the first divides by no gap: it is right, up to eps times the largest condition of
        an eigenvalue, for every symmetric function of the eigenvalues also where they repeat. A defective matrix
        is moved by a rounding error for it, which leaves half of the digits at a Jordan block of order two and fewer
        at longer ones; NaN where less than a quarter is left. Second derivatives at repeated eigenvalues lack the
        terms inside the eigenspace.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.eigvals(jnp.array([[0.0, 1.0], [-1.0, 0.0]])).round(3)
        Array([0.+1.j, 0.-1.j], dtype=complex64)

    Source:
        Giles (2008), section 3.1.
    """
    A = square_matrix("eigvals", a=a)
    l = eigvals_p(A)
    report("eigvals", "", info_of_spectrum, A, l)
    return l


# --- Eigenvalues and eigenvectors: A V = V diag(l)


def _eig(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    A, unit, failed = lapack.scaled(A)
    l, V = lapack.eig(A)
    return lapack.restored(l, unit, failed), nan_where(failed, V)


eig_p = Operation("eig", _eig)


# --- The same with the inverse of the eigenvectors, for the derivatives: A = V diag(l) W, W V = I


def _eigensystem(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """l, V and W; W is NaN at a matrix that no rounding error makes diagonalisable with some digits left.

    LAPACK's eigenvectors of a repeated eigenvalue may be parallel although there are independent ones, for instance
    of a matrix of rank one. Then those of the matrix moved by a rounding error are taken: they are independent with
    probability one, and as exact.
    """
    prepared, unit, failed = lapack.scaled(A)
    eps = jnp.finfo(A.dtype).eps
    system = _with_inverse(prepared)
    parallel = ~_is_well_conditioned(system[2])

    def moved(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        prepared, _, _ = lapack.scaled(as_it_lies(A))
        E = eps * jax.random.normal(jax.random.key(0), A.shape[-2:], eps.dtype)
        return _with_inverse(prepared + E.astype(A.dtype))

    l, V, W = replaced_members(parallel, moved, [A], system)
    useless = failed | ~_is_well_conditioned(W)
    return lapack.restored(l, unit, failed), nan_where(failed, V), nan_where(useless, W)


def _with_inverse(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    l, V = lapack.eig(A)
    return l, V, lapack.lu_solve(*lapack.lu_factor(V), identity(V), left=True, adjoint=False)


def _is_well_conditioned(W: jax.Array) -> jax.Array:
    return jnp.all(_conditions(W) <= jnp.finfo(W.dtype).eps ** -0.75, axis=-1)


def _conditions(W: jax.Array) -> jax.Array:
    """|w_i|, by how much l_i moves faster than A (of unit |v_i|): 1 for normal A, infinite for defective A."""
    return jnp.linalg.norm(W, axis=-1)


eigensystem_p = Operation("eigensystem", _eigensystem)


# Rules (Boeddeker et al. 2017, section 4.7). Differentiate A V = V diag(l), with dV = V X and dW = -X W:
#   W dA V = diag(dl) + X diag(l) - diag(l) X
# gives dl and, with F_ij = 1 / (l_j - l_i), X off the diagonal. That v_j keeps its length and its phase is free
# gives the diagonal: with Z = F o (W dA V), which has none,
#   forward   dl = diag(W dA V),   X = Z - diag(r),   r = Re diag(V^H V Z)
# The cotangent of X is Y = V^H V_bar - W_bar W^H, of which r takes the real part of the diagonal, s = Re diag(Y):
#   reverse   A_bar = W^H [conj(F) o (Y - V^H V diag(s)) + diag(l_bar)] V^H


def _eigensystem_fwd(A):
    l, V, W = eigensystem_p(A)
    return (l, V, W), (l, V, W, _error(*jax.lax.stop_gradient((A, W))))


def _eigensystem_bwd(residuals, cotangents):
    l, V, W, error = residuals
    l_bar, V_bar, W_bar = cotangents
    if V_bar is None and W_bar is None:
        return _eigvals_bwd((V, W), l_bar)
    V_bar = jnp.zeros_like(V) if V_bar is None else V_bar
    W_side = jnp.zeros_like(W) if W_bar is None else W_bar @ H(W)
    s = jnp.real(jnp.sum(jnp.conj(V) * V_bar, axis=-2) - diagonal(W_side)).astype(V.dtype)
    core = jnp.conj(_resolved_gaps(l, error)) * (H(V) @ (V_bar - V * s[..., None, :]) - W_side)
    CV = core @ H(V)
    return (H(W) @ (CV if l_bar is None else CV + l_bar[..., None] * H(V)),)


def _eigensystem_jvp(residuals, dA):
    l, V, W, error = residuals
    M = W @ (dA.astype(V.dtype) @ V)
    Z = _resolved_gaps(l, error) * M
    VZ = V @ Z
    r = jnp.real(jnp.sum(jnp.conj(V) * VZ, axis=-2)).astype(V.dtype)
    return diagonal(M), VZ - V * r[..., None, :], r[..., None] * W - Z @ W


def _error(A: jax.Array, W: jax.Array) -> jax.Array:
    """A bound, not sharp, of the rounding errors of the eigenvalues: condition times eps times the size of A."""
    # the 1-norm over sqrt(n), as large as the 2-norm for evenly filled A; a sum of squares would overflow
    norm = jnp.max(jnp.sum(jnp.abs(A), axis=-2), axis=-1, initial=0)
    size = norm / jnp.sqrt(jnp.asarray(max(A.shape[-1], 1), norm.dtype))
    return 64 * jnp.finfo(A.dtype).eps * size[..., None] * _conditions(W)


def _resolved_gaps(l: jax.Array, error: jax.Array) -> jax.Array:
    """F, with NaN where two eigenvalues are distinct but not by their rounding errors: a defective pair, split."""
    F = reciprocal_gaps(l, error=error)
    return jnp.where(jnp.abs(F) * larger_of_pair(error) >= 1, jnp.nan, F)


eigensystem_p.defvjp(_eigensystem_fwd, _eigensystem_bwd)
eigensystem_p.defjvp(_eigensystem_jvp, source="Boeddeker et al. (2017), arXiv:1701.00392, section 4.7")


# of the first two outputs alone


def _eig_fwd(A):
    (l, V, _), residuals = _eigensystem_fwd(A)
    return (l, V), residuals


def _eig_bwd(residuals, cotangents):
    return _eigensystem_bwd(residuals, (*cotangents, None))


def _eig_jvp(residuals, dA):
    return _eigensystem_jvp(residuals, dA)[:2]


eig_p.defvjp(_eig_fwd, _eig_bwd)
eig_p.defjvp(_eig_jvp, source="Boeddeker et al. (2017), arXiv:1701.00392, section 4.7")


# --- Eigenvalues alone


def _eigvals(A: jax.Array) -> jax.Array:
    A, unit, failed = lapack.scaled(A)
    return lapack.restored(lapack.eigvals(A), unit, failed)


eigvals_p = Operation("eigvals", _eigvals)


# Rules: those above without V_bar, W_bar, dV and dW. With the columns v_i of V and the rows w_i of W:
#   forward   dl_i = w_i dA v_i
#   reverse   A_bar = W^H diag(l_bar) V^H


def _eigvals_fwd(A):
    l, V, W = eigensystem_p(A)
    return l, (V, W)


def _eigvals_bwd(residuals, l_bar):
    V, W = residuals
    return (H(W) @ (l_bar[..., None] * H(V)),)


def _eigvals_jvp(residuals, dA):
    V, W = residuals
    return jnp.sum(T(W) * (dA.astype(V.dtype) @ V), axis=-2)


eigvals_p.defvjp(_eigvals_fwd, _eigvals_bwd)
eigvals_p.defjvp(_eigvals_jvp, source="Giles (2008), Collected matrix derivative results, section 3.1")
