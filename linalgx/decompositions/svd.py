"""The singular value decomposition A = U S V^H, and its derivatives.

Sources: Wan and Zhang (2019), "Automatic differentiation for complex valued SVD", arXiv:1909.02659; Townsend (2016),
"Differentiating the singular value decomposition". How ties are treated is derived above the rules.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import matrix, public, square_matrix
from linalgx._core.batch_minor import LARGEST, extent
from linalgx._core.errors import info_of_spectrum, report
from linalgx._core.matrix import (
    H,
    diagonal,
    from_diagonal,
    hermitian_part,
    phases,
    reciprocal_gaps,
    reciprocal_magnitudes,
    reciprocal_sums,
    skew_part,
)
from linalgx._core.operation import Operation
from linalgx._core.results import SVDResult
from linalgx._kernels import singular_values
from linalgx._kernels.select import small_kernel
from linalgx.decompositions.eigh import eigh_p, eigvalsh_p


@public("full_matrices", "compute_uv", "hermitian")
def svd(
    a: ArrayLike, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> SVDResult | jax.Array:
    """Singular value decomposition A = U diag(S) V^H.

    Args:
        a: shape (..., m, n), real or complex; k = min(m, n).
        full_matrices: give square U and Vh; if False, the first k columns of U and the first k rows of Vh.
        compute_uv: if False, give S alone, as :func:`svdvals` does.
        hermitian: take the Hermitian part (A + A^H)/2, and go by way of its eigenvalues, which is faster.

    Returns:
        ``U``, shape (..., m, m) or (..., m, k), with orthonormal columns; ``S``, real, shape (..., k), descending;
        ``Vh``, shape (..., n, n) or (..., k, n), with orthonormal rows. Or S alone. Up to m, n = 12 the phase (sign)
        of a column v of V makes sum_j sqrt(p_j) v_j, with the primes p_j, real and positive; the phase of a column of
        U without a positive singular value does so for that column.

    Raises:
        ValueError: if a has fewer than two axes, or with ``hermitian`` is not square.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in the factors of each matrix that holds NaN or infinity or that LAPACK did not converge on, and in no
        other.

    Derivatives:
        both modes, every order. The signs of the columns of U and V (in the complex case their phases), and the
        basis of the singular vectors of equal singular values, are arbitrary: the derivative of a function of U and
        Vh has a meaning if the function does not depend on that choice, and then it is exact: S, U[:, :r] U[:, :r]^H
        with a gap after r, and also at repeated singular values U Vh, sums of equal singular values, and projectors
        on whole spaces of singular vectors, those of the columns beyond k (``full_matrices=True``) included. What
        has no exact first derivative at repeated singular values is U diag(f(S)) Vh with f of U, S and Vh apart
        (the rule cannot see that its parts belong together), and second derivatives there. A zero singular value has
        no derivative of its own; its terms that divide by it are left out, so that all is finite.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.svd(jnp.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])).S
        Array([4., 3.], dtype=float32)

    Source:
        Wan and Zhang (2019), arXiv:1909.02659; Townsend (2016).
    """
    A = square_matrix("svd", a=a) if hermitian else matrix("svd", a=a)
    if compute_uv:
        out = SVDResult(*(hermitian_svd(A) if hermitian else svd_p(A, full_matrices=full_matrices)))
        report("svd", "", info_of_spectrum, A, out.S)
        return out
    S = -jnp.sort(-jnp.abs(eigvalsh_p(A)), axis=-1) if hermitian else svdvals_p(A)
    report("svd", "", info_of_spectrum, A, S)
    return S


def hermitian_svd(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, S and Vh of the Hermitian part V diag(l) V^H of A: V sign(l), |l| and V^H, in descending order of |l|."""
    l, V = eigh_p(A)
    order = jnp.argsort(-jnp.abs(jax.lax.stop_gradient(l)), axis=-1)
    l = jnp.take_along_axis(l, order, axis=-1)
    V = jnp.take_along_axis(V, order[..., None, :], axis=-1)
    signs = jnp.where(l < 0, -1, 1).astype(V.dtype)
    return V * signs[..., None, :], jnp.abs(l), H(V)


@public()
def svdvals(x: ArrayLike, /) -> jax.Array:
    """Singular values of a matrix.

    Args:
        x: shape (..., m, n), real or complex.

    Returns:
        The min(m, n) singular values, real, descending, shape (..., min(m, n)).

    Raises:
        ValueError: if x has fewer than two axes.
        TypeError: if x is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in the singular values of each matrix that holds NaN or infinity or that LAPACK did not converge on, and in
        no other.

    Derivatives:
        both modes, every order. Nothing is divided by: at repeated singular values a symmetric function of them
        (their sum, the sum of their powers) has its exact first derivative; the second derivative there is not
        defined by the values alone. At a zero singular value, where it has a kink, the derivative is that in the
        direction of its singular vectors: a subgradient.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.svdvals(jnp.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
        Array([4., 3.], dtype=float32)

    Source:
        Townsend (2016), Differentiating the singular value decomposition.
    """
    X = matrix("svdvals", x=x)
    S = svdvals_p(X)
    report("svdvals", "", info_of_spectrum, X, S)
    return S


# --- Singular value decomposition: A = U S V^H


def _svd(A: jax.Array, *, full_matrices: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    U, S, Vh = singular_values.svd(A, full_matrices=full_matrices)
    if max(map(extent, A.shape[-2:])) <= LARGEST:
        U, Vh = _normalise_phases(U, S, Vh)
    return U, S, Vh


def _normalise_phases(U: jax.Array, S: jax.Array, Vh: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Phases are those of the columns of V; columns of U that belong to no positive singular value have their own."""
    k = S.shape[-1]
    of_V, of_U = phases(H(Vh)), phases(U)
    shared = jnp.where(S[..., None, :] > 0, of_V[..., :k], of_U[..., :k])
    return U * jnp.concatenate([shared, of_U[..., k:]], axis=-1), H(of_V) * Vh


svd_p = Operation("svd", _svd, small=small_kernel("svd"))


# Rules, for m >= n (a wide A is treated as its adjoint A^H = V S U^H). Here k = n, V is square, and U has k columns,
# or all m: U = [U_1, U_2]. With skew-Hermitian Omega_U, Omega_V, dU_1 = U_1 Omega_U + (I - U_1 U_1^H) dU_1 and
# dV = V Omega_V, the differential of A = U S V^H is, in P = U_1^H dA V,
#   P = Omega_U S + dS - S Omega_V,   (I - U_1 U_1^H) dU_1 = (I - U_1 U_1^H) dA V S^-1.
# The Hermitian and the skew part of P separate the sum of the two unknowns from their difference:
#   dS = Re diag P,   Y = (Omega_U + Omega_V)/2,   Z = (Omega_U - Omega_V)/2,
#   Y_ij = herm(P)_ij / (s_j - s_i),   Z_ij = skew(P)_ij / (s_j + s_i).
# Y_ij is what rotates U_1 and V together: where s_i = s_j it is arbitrary, and taken to be 0, as on the diagonal. Z
# has no such freedom; its diagonal i Im P_ii / (2 s_i) splits the phase evenly between U_1 and V. It is left out where
# both singular values are zero. U_2 follows U_1, since U stays unitary: with R = U_2^H dA V S^-1,
#   forward   dU_1 = U_1 (Y + Z) + U_2 R,   dU_2 = -U_1 R^H,   dVh = (Z - Y) Vh
# Every term is the product of P (or R) with a symmetric or antisymmetric real matrix; with K_U = skew(U_1^H U_1_bar)
# and K_V = skew(V^H V_bar) the adjoint is therefore
#   reverse   A_bar = (U_1 P_bar + U_2 R_bar S^-1) Vh,   R_bar = U_2^H U_1_bar - (U_1^H U_2_bar)^H,
#             P_bar_ij = (K_U + K_V)_ij / (s_j - s_i) + (K_U - K_V)_ij / (s_j + s_i) + S_bar_i delta_ij.
# Without U_2, U_2 U_2^H = I - U_1 U_1^H. If only S_bar is alive, A_bar = U_1 diag(S_bar) Vh.


def _svd_fwd(A, *, full_matrices):
    out = svd_p(A, full_matrices=full_matrices)
    return out, out


def _svd_bwd(residuals, cotangents, *, full_matrices):
    U, S, Vh = residuals
    U_bar, S_bar, Vh_bar = cotangents
    if U.shape[-2] >= Vh.shape[-1]:
        return (_tall_bwd(U, S, Vh, U_bar, S_bar, Vh_bar),)
    V_bar, Uh_bar = (None if X is None else H(X) for X in (Vh_bar, U_bar))
    return (H(_tall_bwd(H(Vh), S, H(U), V_bar, S_bar, Uh_bar)),)


def _tall_bwd(U, S, Vh, U_bar, S_bar, Vh_bar):
    k, dtype = S.shape[-1], U.dtype
    if U_bar is None and Vh_bar is None:
        return (U[..., :k] * S_bar[..., None, :].astype(dtype)) @ Vh
    M = None if U_bar is None else H(U) @ U_bar
    K_U = 0 if M is None else skew_part(M[..., :k, :k])
    K_V = 0 if Vh_bar is None else skew_part(Vh @ H(Vh_bar))
    P_bar = (K_U + K_V) * reciprocal_gaps(S).astype(dtype) + (K_U - K_V) * reciprocal_sums(S).astype(dtype)
    if S_bar is not None:
        P_bar = P_bar + from_diagonal(S_bar).astype(dtype)
    if M is None or U.shape[-2] == k:
        return (U[..., :k] @ P_bar) @ Vh
    S_inverse = reciprocal_magnitudes(S)[..., None, :].astype(dtype)
    if U.shape[-1] == k:
        return (U @ (P_bar - M * S_inverse) + U_bar * S_inverse) @ Vh
    R_bar = M[..., k:, :k] - H(M[..., :k, k:])
    return (U @ jnp.concatenate([P_bar, R_bar * S_inverse], axis=-2)) @ Vh


def _svd_jvp(residuals, dA, *, full_matrices):
    U, S, Vh = residuals
    if U.shape[-2] >= Vh.shape[-1]:
        return _tall_jvp(U, S, Vh, dA)
    dV, dS, dUh = _tall_jvp(H(Vh), S, H(U), H(dA))
    return H(dUh), dS, H(dV)


def _tall_jvp(U, S, Vh, dA):
    k, dtype = S.shape[-1], U.dtype
    dA_V = dA @ H(Vh)
    M = H(U) @ dA_V
    P = M[..., :k, :]
    Y = hermitian_part(P) * reciprocal_gaps(S).astype(dtype)
    Z = skew_part(P) * reciprocal_sums(S).astype(dtype)
    dS, dVh = jnp.real(diagonal(P)), (Z - Y) @ Vh
    if U.shape[-2] == k:
        return U @ (Y + Z), dS, dVh
    S_inverse = reciprocal_magnitudes(S)[..., None, :].astype(dtype)
    if U.shape[-1] == k:
        return U @ (Y + Z - P * S_inverse) + dA_V * S_inverse, dS, dVh
    R = M[..., k:, :] * S_inverse
    dU_1 = U @ jnp.concatenate([Y + Z, R], axis=-2)
    return jnp.concatenate([dU_1, -(U[..., :k] @ H(R))], axis=-1), dS, dVh


svd_p.defvjp(_svd_fwd, _svd_bwd)
svd_p.defjvp(_svd_jvp, source="Wan and Zhang (2019), arXiv:1909.02659; Townsend (2016); ties as derived in svd.py")


# --- Singular values alone


svdvals_p = Operation("svdvals", singular_values.svdvals, small=small_kernel("svdvals"))


# Rules.
#   forward   dS = Re diag(U^H dA V)
#   reverse   A_bar = U diag(S_bar) V^H


def _svdvals_fwd(A):
    U, S, Vh = svd_p(A, full_matrices=False)
    return S, (U, Vh)


def _svdvals_bwd(residuals, S_bar):
    U, Vh = residuals
    return ((U * S_bar[..., None, :].astype(U.dtype)) @ Vh,)


def _svdvals_jvp(residuals, dA):
    U, Vh = residuals
    return jnp.real(jnp.sum(jnp.conj(U) * (dA @ H(Vh)), axis=-2))


svdvals_p.defvjp(_svdvals_fwd, _svdvals_bwd)
svdvals_p.defjvp(_svdvals_jvp, source="Townsend (2016), Differentiating the singular value decomposition")
