"""Pseudoinverses and least squares at any rank, and their derivatives.

Sources: Golub and Pereyra (1973), "The differentiation of pseudo-inverses and nonlinear least squares problems whose
variables separate", SIAM J. Numer. Anal. 10, 413-432; for the truncation, Noferini (2017), "A formula for the Frechet
derivative of a generalized matrix function", SIAM J. Matrix Anal. Appl. 38, 434-457; for the normal equations, Bjorck
(1987), "Stability analysis of the method of seminormal equations for linear least squares problems", Linear Algebra
Appl. 88/89, 31-48; for the size of their error, Kenney and Laub (1994), "Small-sample statistical condition estimates
for general matrix functions", SIAM J. Sci. Comput. 15, 36-61.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from linalgx._core.arguments import (
    broadcast_batches,
    hint_at_vectors,
    inexact_arrays,
    matrix,
    public,
    require_matrix,
    square_matrix,
)
from linalgx._core.arguments import tolerance as real_tolerance
from linalgx._core.batch_minor import SMALL, batch_minor, extent
from linalgx._core.errors import info_of_spectrum, nan_where, not_finite, report
from linalgx._core.loops import as_it_lies, replaced, replaced_members
from linalgx._core.matrix import (
    H,
    after,
    hermitian_part,
    identity,
    kept_singular_values,
    largest_entry,
    rank_tolerances,
    squared_modulus,
)
from linalgx._core.operation import Operation, SmallKernel, always
from linalgx._core.results import LstsqResult
from linalgx._kernels import lapack
from linalgx._kernels.exponents import power_of_two
from linalgx._kernels.select import small_products
from linalgx.decompositions.svd import hermitian_svd, svd_p, svdvals_p
from linalgx.products import product
from linalgx.triangular_systems import solve_triangular_p

Factors = tuple[jax.Array, ...]
Function = Callable[[jax.Array], jax.Array]


@public("hermitian")
def pinv(
    a: ArrayLike,
    rtol: ArrayLike | None = None,
    hermitian: bool = False,
    *,
    rcond: ArrayLike | None = None,
    atol: ArrayLike | None = None,
) -> jax.Array:
    """Moore-Penrose pseudoinverse, from the singular values above a tolerance.

    Singular values count if they are greater than max(atol, rtol * the largest); the others are set to zero.

    Args:
        a: shape (..., m, n), real or complex.
        rtol: a real number for all matrices, or an array that broadcasts to the batch axes of a. By default
            eps * max(m, n), or 0 where a positive ``atol`` is given.
        hermitian: take the Hermitian part (A + A^H)/2, and go by way of its eigenvalues, which is faster.
        rcond: another name for ``rtol``.
        atol: like ``rtol``, but absolute. By default 0.

    Returns:
        The pseudoinverse, shape (..., n, m), in the promoted dtype of a.

    Raises:
        ValueError: if a has fewer than two axes, or with ``hermitian`` is not square; if a tolerance does not
            broadcast to the batch axes of a; if both ``rtol`` and ``rcond`` are given.
        TypeError: if an argument is not an array of numbers, or a tolerance is complex.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in the pseudoinverse of each matrix that holds NaN or infinity, and in no other.

    Derivatives:
        both modes with respect to a, the rank held fixed: the pseudoinverse jumps where a singular value crosses the
        tolerance. Every order is exact with the default tolerance, at repeated singular values and below full rank
        too. A tolerance that is given may drop singular values that are not zero: the derivative of the function so
        truncated is exact, its second derivative where the singular values are distinct.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.pinv(jnp.array([[2.0, 0.0], [0.0, 0.0], [0.0, 4.0]]))
        Array([[0.5 , 0.  , 0.  ],
               [0.  , 0.  , 0.25]], dtype=float32)

    Source:
        Golub and Pereyra (1973), SIAM J. Numer. Anal. 10, equation 4.12; Noferini (2017) for the truncation. Matrices
        whose condition is small have their factors from A^H A = R^H R (Cholesky), corrected to second order.
    """
    if rtol is not None and rcond is not None:
        raise ValueError("linalgx.pinv: rtol and rcond are the same, but both came")
    A = hermitian_part(square_matrix("pinv", a=a)) if hermitian else matrix("pinv", a=a)
    relative = real_tolerance("pinv", A, rtol=rtol) if rcond is None else real_tolerance("pinv", A, rcond=rcond)
    A_1, factors, _, _ = _factored(A, real_tolerance("pinv", A, atol=atol), relative, hermitian=hermitian)
    report("pinv", "", _info, A, factors[-1])
    F = pinv_p(A_1, *factors)
    return hermitian_part(F) if hermitian else F


@public()
def lstsq(a: ArrayLike, b: ArrayLike, rcond: ArrayLike | None = None) -> LstsqResult:
    """Least-squares solution of a x = b; of all x that minimise ``|b - a x|``, the shortest.

    Args:
        a: shape (..., m, n), real or complex, of any rank.
        b: shape (..., m, k), or (m,) for one right-hand side. The leading axes of a and b broadcast.
        rcond: singular values of a count if they are greater than rcond * the largest. A real number for all
            matrices, or an array that broadcasts to the batch axes of a. By default eps * max(m, n); negative: eps.

    Returns:
        ``solution``, shape (..., n, k), or (..., n) for a vector b; ``residuals``, real, shape (..., k), or (..., 1)
        for a vector b: the sum of ``|b - a x|^2`` over each column, at any rank and shape (NumPy and torch leave it out
        in some cases); ``rank``, integer, shape (...): the number of singular values that count; and
        ``singular_values``, real, shape (..., min(m, n)). The last two have the batch axes of a.

    Raises:
        ValueError: if the rows of a and b differ in number, the batch axes do not broadcast, or rcond does not
            broadcast to those of a.
        TypeError: if an argument is not an array of numbers, or rcond is complex.
        LinAlgError: inside :func:`raise_errors`, if a matrix a holds NaN or infinity, or LAPACK did not converge.

    On failure:
        NaN in all but the rank (which is 0) of each matrix that holds NaN or infinity, and in no other.

    Derivatives:
        both modes with respect to a and b, the rank held fixed. Every order is exact with the default tolerance, at
        repeated singular values (orthonormal columns) and below full rank too. With an rcond that drops singular
        values that are not zero, the first derivative is exact, the second where the singular values are distinct.
        ``singular_values`` as :func:`linalgx.svdvals`; the rank has none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> a = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> linalgx.lstsq(a, jnp.array([3.0, 4.0, 2.0])).solution
        Array([3., 2.], dtype=float32)

    Source:
        Golub and Pereyra (1973), SIAM J. Numer. Anal. 10, equation 4.12; Noferini (2017) for the truncation; Bjorck
        (1987), Linear Algebra Appl. 88/89, 31-48, for the normal equations where the condition is small.
    """
    A, B = inexact_arrays("lstsq", a=a, b=b)
    require_matrix("lstsq", a=A)
    is_vector = B.ndim == 1
    B = B[:, None] if is_vector else B
    require_matrix("lstsq", b=B)
    if A.shape[-2] != B.shape[-2]:
        raise ValueError(
            f"linalgx.lstsq: a and b must have as many rows, but a has {A.shape[-2]} and b has {B.shape[-2]}"
            + hint_at_vectors(A, b=B)
        )
    relative = real_tolerance("lstsq", A, rcond=rcond)
    if relative is not None:
        relative = jnp.where(relative < 0, jnp.finfo(relative.dtype).eps, relative)
    # more products of the matrix with so few columns cost less than the orthonormal factor (measured)
    few = relative is None and 16 * extent(B.shape[-1]) <= min(map(extent, A.shape[-2:]))
    A_1, (U, f, W), rank, S = _factored(A, None, relative, for_few=few)
    report("lstsq", "", _info, A, W)
    A_1, U, f, W, A_b, B = broadcast_batches("lstsq", a_1=A_1, U=U, f=f[..., None], W=W, a=A, b=B)
    X = pinv_apply_p(A_1, U, f[..., 0], W, B, adjoint=False, for_few=few)
    # with a tolerance the solution may drop what moves the residual
    squares = squared_residuals_p if relative is None else _squared_residuals
    S = svdvals_p(after(X, A)) if S is None else S
    return LstsqResult(X[..., 0] if is_vector else X, squares(A_b, B, X), rank, S)


# Both functions are the exact pseudoinverse F = A^+ of the matrix of fixed rank that is left of A above the tolerance.
# F is smooth where factors of A are not (at repeated singular values), so the rules of F are written in A and F, and
# the operations take factors beside A as constants, the means to compute with. They are, for m >= n (a wide A is
# treated as its adjoint), those of
#   F = W^H diag(f) U^H
# with the singular value decomposition A = U S W, f(s) = 1/s where s is kept and 0 elsewhere, or with A = U R, f = 1,
# W = R^-H where A has full rank. For few right-hand sides U need not be computed then: f = -1 marks those of
#   F = W^H W U^H,  U = A  the normal equations, (A^H A)^-1 = W^H W; what they lose where the condition is large comes
#                          back by two steps of refinement
# Where A has full rank, U and W are those of A/c, c a power of two next to its largest entry, and f is 1/c or -1/c.


def _factored(
    A: jax.Array,
    atol: jax.Array | None,
    rtol: jax.Array | None,
    *,
    hermitian: bool = False,
    for_few: bool = False,
) -> tuple[jax.Array, Factors, jax.Array, jax.Array | None]:
    """The part of A above the tolerance, the factors of its pseudoinverse, its rank, and S where it was computed."""
    given = atol is not None or rtol is not None
    if not given and not hermitian and max(map(extent, A.shape[-2:])) > SMALL:
        *factors, rank = inverse_factors_p(stop_gradient(A), for_few=for_few)
        return A, tuple(factors), rank, None
    if given:
        atol, rtol = rank_tolerances(A.shape, jnp.finfo(A.dtype).dtype, stop_gradient(atol), stop_gradient(rtol))
        A_1, U, S, Vh = truncation_p(A, atol, rtol, hermitian=hermitian)
    else:
        # what falls below the default tolerance is zero, but for rounding errors
        A_1, (U, S, Vh) = A, _svd(A, hermitian)
    left, values, right = stop_gradient((H(Vh), S, H(U)) if _is_wide(A) else (U, S, Vh))
    *factors, rank = _factors_from_svd(left, values, right, kept_singular_values(values, A.shape, atol, rtol))
    return A_1, tuple(factors), rank, S


def _info(A: jax.Array, W: jax.Array) -> jax.Array:
    """``info`` of the factors, which are NaN where they failed."""
    return info_of_spectrum(A, jnp.sum(W, axis=-1))


def _svd(A: jax.Array, hermitian: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    return hermitian_svd(A) if hermitian else svd_p(A, full_matrices=False)


def _factors_from_svd(U: jax.Array, S: jax.Array, Vh: jax.Array, kept: jax.Array) -> list[jax.Array]:
    """The factors and the rank."""
    return [U, jnp.where(kept, 1 / jnp.where(kept, S, 1), 0), Vh, jnp.sum(kept, axis=-1)]


def _is_wide(A: jax.Array) -> bool:
    return A.shape[-2] < A.shape[-1]


# --- Factors without a singular value decomposition of the matrices that have full rank beyond doubt
#
# Cholesky's decomposition of A^H A = R^H R leaves an error E in (A R^-1)^H (A R^-1) = I + E, about eps cond^2 large,
# which multiplies the error of a solution in each step of refinement by the normal equations (Bjorck 1987 on these
# steps, with R from a QR decomposition). Two steps, or the terms up to E^2 in (I + E)^-1, leave |E|^3. Of
# |E| = g eps cond^2 that is below eps cond, the error of a backward stable method, if |E|^5 < eps / g: half of
# eps^(1/5) as the limit allows for g = 32. Elsewhere A = Q R by Householder.


def _inverse_factors(A: jax.Array, *, for_few: bool) -> tuple[jax.Array, ...]:
    m, eps = max(A.shape[-2:]), jnp.finfo(A.dtype).eps
    unit = power_of_two(jnp.real(_scale(A)))
    # a matrix that is not finite is given up: it does not decide for the others
    failed = not_finite(A)

    def tall(A: jax.Array, unit: jax.Array) -> jax.Array:
        # of size 1, so that no square and no product with a right-hand side leaves the range before the solution does
        A_1 = as_it_lies(A)
        return (H(A_1) if _is_wide(A) else A_1) * (1 / unit).astype(A.dtype)

    def of_full_rank(U: jax.Array, sign: float, W: jax.Array, unit: jax.Array, failed: jax.Array) -> list[jax.Array]:
        f = jnp.broadcast_to(sign / unit[..., 0], W.shape[:-1])
        rank = jnp.sum((f != 0) & ~failed[..., None], axis=-1)
        return [as_it_lies(U), f, as_it_lies(nan_where(failed, W)), rank]

    def by_cholesky(U: jax.Array, f: jax.Array, W: jax.Array, rank: jax.Array) -> list[jax.Array]:
        U = solve_triangular_p(L, U, lower=True, left=False, unit_diagonal=False, adjoint=True)
        E = H(U) @ U - identity(W)
        return of_full_rank(U, 1, W - E @ (W - E @ W), unit, failed)

    def by_householder(A: jax.Array, unit: jax.Array, failed: jax.Array) -> list[jax.Array]:
        reflections, R, tau = lapack.geqrf(tall(A, unit))
        inverse = _inverse(R, lower=False)
        # a product of bounds, with room for the rounding errors of the inverse; false where there is a NaN
        is_certain = (m * eps * _norm_bound(R) * _norm_bound(inverse) < 0.25) | failed
        U = lapack.householder_product(reflections, tau)
        return [~is_certain, *of_full_rank(U, 1, H(inverse), unit, failed)]

    def by_svd(A: jax.Array, unit: jax.Array, failed: jax.Array) -> list[jax.Array]:
        U, S, Vh = svd_p(tall(A, unit), full_matrices=False)
        U, f, W, rank = _factors_from_svd(U, S, Vh, kept_singular_values(S, A.shape))
        return [as_it_lies(U), f / unit[..., 0], as_it_lies(W), rank]

    U = tall(A, unit)
    G = H(U) @ U
    # NaN where it is not positive definite
    L = lapack.cholesky(G)
    W = _inverse(L, lower=True)
    is_precise = _size_of_error(U, W) < eps ** (1 / 5) / 2
    # the product of two bounds, of the norms of A and of W, that cost nothing: the condition is small where E is
    is_certain = m * eps * jnp.sqrt(_frobenius(G)) * _frobenius(W) < 0.25
    serves = (is_precise & is_certain) | failed
    factors = of_full_rank(U, -1, W, unit, failed)
    if not for_few:
        factors = replaced(jnp.any(serves), by_cholesky, factors)
    args = [A, unit, failed]
    uncertain, *factors = replaced_members(~serves, by_householder, args, [~serves, *factors])
    return tuple(replaced_members(uncertain, by_svd, args, factors))


inverse_factors_p = Operation("inverse_factors", _inverse_factors)


def _inverse(R: jax.Array, lower: bool) -> jax.Array:
    """The inverse of a triangular matrix."""
    return solve_triangular_p(R, identity(R), lower=lower, left=True, unit_diagonal=False, adjoint=False)


def _size_of_error(U: jax.Array, W: jax.Array) -> jax.Array:
    """An estimate of |I - W^H W U^H U|_F, from its products with eight normal vectors (Kenney and Laub 1994)."""
    n = U.shape[-1]
    if isinstance(n, int):
        Z = jnp.asarray(np.random.default_rng(0).standard_normal((n, 8)), U.dtype)
    else:
        Z = jax.random.normal(jax.random.key(0), (n, 8), U.dtype)
    return _frobenius(Z - H(W) @ (W @ (H(U) @ (U @ Z)))) / math.sqrt(Z.shape[-1])


def _frobenius(X: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(squared_modulus(X), axis=(-2, -1)))


def _norm_bound(X: jax.Array) -> jax.Array:
    """|X^H X|_F^(1/2): not below the largest singular value of an n x n matrix, and at most n^(1/4) times it."""
    return jnp.sqrt(_frobenius(H(X) @ X))


# --- Truncation: A_1 = U diag(S, 0 where dropped) V^H, with the factors of A


def _truncation(
    A: jax.Array, atol: jax.Array, rtol: jax.Array, *, hermitian: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    U, S, Vh = _svd(A, hermitian)
    kept = kept_singular_values(S, A.shape, atol, rtol)
    return (U * jnp.where(kept, S, 0)[..., None, :].astype(U.dtype)) @ Vh, U, S, Vh


truncation_p = Operation("truncation", _truncation, small=small_products(_truncation))


# Rules (Noferini 2017), for m >= n. In P = U^H dA V, the Hermitian part of P is multiplied by the divided differences
# (h_i - h_j)/(s_i - s_j) of h(s) = s or 0, the skew part by (h_i + h_j)/(s_i + s_j). Both are 1 where i and j are
# kept, and 0 where both are dropped. Where one is kept, and s_k > s_d are the two singular values, they are
# s_k/(s_k - s_d) and s_k/(s_k + s_d), hence
#   core_ij = C_ij P_ij + D_ij (P^H)_ij,   C = s_k^2 / (s_k^2 - s_d^2),   D = s_k s_d / (s_k^2 - s_d^2)
# finite also at repeated singular values, since equal ones are both kept or both dropped. With V_1 the kept columns
# of V,
#   forward   dA_1 = U core V^H + (I - U U^H) dA V_1 V_1^H
# C and D are symmetric, and the map is its own adjoint. The factors move as the svd has it.


def _truncation_fwd(A, atol, rtol, *, hermitian):
    A_1, U, S, Vh = truncation_p(A, atol, rtol, hermitian=hermitian)
    return (A_1, U, S, Vh), (U, S, Vh, kept_singular_values(S, A.shape, atol, rtol))


def _truncation_bwd(residuals, cotangents, *, hermitian):
    U, S, Vh, kept = residuals
    A_1_bar, *factors_bar = cotangents
    terms = []
    if A_1_bar is not None:
        terms.append(_truncate(U, S, Vh, kept, A_1_bar))
    if any(x is not None for x in factors_bar):
        terms += svd_p.bwd((U, S, Vh), tuple(factors_bar), full_matrices=False)
    return sum(terms[1:], terms[0]), None, None


def _truncation_jvp(residuals, dA, datol, drtol, *, hermitian):
    U, S, Vh, kept = residuals
    return _truncate(U, S, Vh, kept, dA), *svd_p.jvp((U, S, Vh), dA, full_matrices=False)


def _truncate(U, S, Vh, kept, dA):
    if U.shape[-2] < Vh.shape[-1]:
        return H(_truncate(H(Vh), S, H(U), kept, H(dA)))
    column, row = S[..., :, None], S[..., None, :]
    one_kept = kept[..., :, None] != kept[..., None, :]
    larger, smaller = jnp.maximum(column, row), jnp.minimum(column, row)
    gap = jnp.where(one_kept, larger - smaller, 1)
    ratio = jnp.where(one_kept, larger / jnp.where(one_kept, larger + smaller, 1), 0)
    both_kept = (kept[..., :, None] & kept[..., None, :]).astype(S.dtype)
    C, D = both_kept + ratio * (larger / gap), ratio * (smaller / gap)
    dA_V = dA @ H(Vh)
    P = H(U) @ dA_V
    core = C.astype(P.dtype) * P + D.astype(P.dtype) * H(P)
    if U.shape[-2] == U.shape[-1]:
        return (U @ core) @ Vh
    in_row = kept[..., None, :].astype(P.dtype)
    return (U @ (core - P * in_row) + dA_V * in_row) @ Vh


truncation_p.defvjp(_truncation_fwd, _truncation_bwd)
truncation_p.defjvp(
    _truncation_jvp, source="Noferini (2017), SIAM J. Matrix Anal. Appl. 38, generalized matrix functions"
)


# --- Pseudoinverse: F = A^+


def _pinv(A: jax.Array, U: jax.Array, f: jax.Array, W: jax.Array) -> jax.Array:
    F = (H(W) * f[..., None, :].astype(W.dtype)) @ H(U)
    return H(F) if _is_wide(A) else F


pinv_p = Operation("pinv", _pinv, small=small_products(_pinv))


# Rules (Golub and Pereyra 1973, at constant rank), for m >= n (a wide A is treated as its adjoint):
#   dF = -F dA F + F F^H dA^H (I - A F) + (I - F A) dA^H F^H F
# With the n x n matrices M = F F^H, E = F A, and D = F dA or W = F_bar F^H,
#   forward   dF = [(I - E) D^H - D - M (dA^H A)] F + M dA^H
#   reverse   A_bar = F^H [W^H (I - E) - W] + F_bar^H M - A (W^H M)
# To keep M within range, they are evaluated for A/c and c F: dF scales as 1/c^2.


def _pinv_fwd(A, *factors):
    F = pinv_p(A, *factors)
    return F, (A, F)


def _pinv_bwd(residuals, F_bar):
    A, F = residuals
    wide = A.shape[-2] < A.shape[-1]
    A, F, F_bar = (H(A), H(F), H(F_bar)) if wide else (A, F, F_bar)
    c = _scale(A)
    F, F_bar = F * c, F_bar / c
    M, E, W = F @ H(F), F @ (A / c), F_bar @ H(F)
    A_bar = H(F) @ (H(W) @ (identity(E) - E) - W) + H(F_bar) @ M - A @ (H(W) @ M / c)
    return H(A_bar / c) if wide else A_bar / c, None, None, None


def _pinv_jvp(residuals, dA, *constant):
    A, F = residuals
    wide = A.shape[-2] < A.shape[-1]
    A, F, dA = (H(A), H(F), H(dA)) if wide else (A, F, dA)
    c = _scale(A)
    A, F, dA = A / c, F * c, dA / c
    M, E, D = F @ H(F), F @ A, F @ dA
    dF = ((identity(E) - E) @ H(D) - D - M @ (H(dA) @ A)) @ F + M @ H(dA)
    return H(dF / c) if wide else dF / c


pinv_p.defvjp(_pinv_fwd, _pinv_bwd)
pinv_p.defjvp(_pinv_jvp, source="Golub and Pereyra (1973), SIAM J. Numer. Anal. 10, equation 4.12")


# --- Product with a pseudoinverse: X = F B, or F^H B


def _pinv_apply(
    A: jax.Array, U: jax.Array, f: jax.Array, W: jax.Array, B: jax.Array, *, adjoint: bool, for_few: bool
) -> jax.Array:
    diag_f = f[..., :, None].astype(W.dtype)
    to_range = adjoint != _is_wide(A)

    def by_factors() -> jax.Array:
        return U @ (diag_f * (W @ B)) if to_range else H(W) @ (diag_f * (H(U) @ B))

    def by_equations() -> jax.Array:
        return _least_norm(U, W, -diag_f * B) if to_range else -diag_f * _least_squares(U, W, B)

    if not for_few:
        return by_factors()
    of_equations = jnp.all(f < 0, axis=-1)

    def mixed() -> jax.Array:
        return jnp.where(of_equations[..., None, None], by_equations(), by_factors())

    def not_all() -> jax.Array:
        return jax.lax.cond(jnp.any(of_equations), mixed, by_factors)

    return jax.lax.cond(jnp.all(of_equations), by_equations, not_all)


def _least_squares(U: jax.Array, W: jax.Array, B: jax.Array) -> jax.Array:
    """X that minimises |B - U X|, where W^H W is (U^H U)^-1 but for rounding errors."""
    return _refined(lambda B: H(W) @ (W @ (H(U) @ B)), lambda X: U @ X, B)


def _least_norm(U: jax.Array, W: jax.Array, Y: jax.Array) -> jax.Array:
    """The smallest X with U^H X = Y, where W^H W is (U^H U)^-1 but for rounding errors."""
    return _refined(lambda Y: U @ (H(W) @ (W @ Y)), lambda X: H(U) @ X, Y)


def _refined(solve: Function, multiply: Function, B: jax.Array) -> jax.Array:
    X = solve(B)
    for _ in range(2):
        X += solve(B - multiply(X))
    return X


pinv_apply_p = Operation("pinv_apply", _pinv_apply, linear_in=({4},), small=small_products(_pinv_apply))


# Rules, from dF above, with R = B - A X, T = F^H X and F A = A^H F^H (for the adjoint, A stands for A^H, F for F^H):
#   forward   dX = F [dB - dA X + F^H (dA^H R) - A G] + G,   G = dA^H T
#   reverse   B_bar = F^H X_bar,   A_bar = -B_bar X^H + R (F B_bar)^H + T (X_bar - A^H B_bar)^H
# F and F^H are products with the factors, never formed. R (F B_bar)^H is evaluated as (R/c) (F c B_bar)^H.


def _pinv_apply_fwd(A, U, f, W, B, **options):
    X = pinv_apply_p(A, U, f, W, B, **options)
    return X, (A, U, f, W, B, X)


def _pinv_apply_bwd(residuals, X_bar, *, adjoint, for_few):
    A, U, f, W, B, X = residuals
    F, F_adjoint = _products(A, (U, f, W), adjoint, for_few)
    A = H(A) if adjoint else A
    c = _scale(A)
    if for_few:
        B_bar, T = jnp.split(F_adjoint(jnp.concatenate([X_bar, X], axis=-1)), 2, axis=-1)
    else:
        B_bar, T = F_adjoint(X_bar), F_adjoint(X)
    Y, N = F(B_bar * c), X_bar - H(A) @ B_bar
    A_bar = ((B - A @ X) / c) @ H(Y) + T @ H(N) - B_bar @ H(X)
    return H(A_bar) if adjoint else A_bar, None, None, None, B_bar


def _pinv_apply_jvp(residuals, dA, dU, df, dW, dB, *, adjoint, for_few):
    A, U, f, W, B, X = residuals
    F, F_adjoint = _products(A, (U, f, W), adjoint, for_few)
    if dA is None:
        return F(dB)
    A, dA = (H(A), H(dA)) if adjoint else (A, dA)
    G = H(dA) @ F_adjoint(X)
    moved = F_adjoint(H(dA) @ (B - A @ X)) - dA @ X - A @ G
    return F(moved if dB is None else moved + dB) + G


def _products(A, factors, adjoint, for_few):
    """The products of a matrix with F and with F^H (with F^H and F for the adjoint)."""
    return (
        lambda B: pinv_apply_p(A, *factors, B, adjoint=adjoint, for_few=for_few),
        lambda B: pinv_apply_p(A, *factors, B, adjoint=not adjoint, for_few=for_few),
    )


pinv_apply_p.defvjp(_pinv_apply_fwd, _pinv_apply_bwd)
pinv_apply_p.defjvp(_pinv_apply_jvp, source="Golub and Pereyra (1973), SIAM J. Numer. Anal. 10, equation 4.12")


def _scale(A: jax.Array) -> jax.Array:
    """The largest absolute value in each matrix, or 1 if it is 0: a constant that the results do not depend on."""
    largest = largest_entry(stop_gradient(A))
    return jnp.where(largest > 0, largest, 1).astype(A.dtype)


# --- Squared residuals of the columns of a least-squares solution X: r_k = |b_k - A x_k|^2


def _squared_residuals(A: jax.Array, B: jax.Array, X: jax.Array) -> jax.Array:
    return jnp.sum(squared_modulus(B - product(A, X)), axis=-2)


squared_residuals_p = Operation(
    "squared_residuals",
    _squared_residuals,
    small=SmallKernel(batch_minor(_squared_residuals), always),
    at_hand=(2,),
)


# Rules. X makes the residual R = B - A X smallest, A^H R = 0: dX, which may be out of range, does not move it.
#   forward   dr = 2 Re sum conj(R) (dB - dA X)
#   reverse   B_bar = 2 R diag(r_bar),   A_bar = -B_bar X^H


def _squared_residuals_fwd(A, B, X):
    return squared_residuals_p(A, B, X), (A, B, X)


def _squared_residuals_bwd(residuals, r_bar):
    A, B, X = residuals
    B_bar = 2 * (B - product(A, X)) * r_bar[..., None, :].astype(B.dtype)
    return -product(B_bar, H(X)), B_bar, None


def _squared_residuals_jvp(residuals, dA, dB, _dX):
    A, B, X = residuals
    moved = 0 if dB is None else dB
    if dA is not None:
        moved = moved - product(dA, X)
    return 2 * jnp.sum(jnp.real(jnp.conj(B - product(A, X)) * moved), axis=-2)


squared_residuals_p.defvjp(_squared_residuals_fwd, _squared_residuals_bwd)
squared_residuals_p.defjvp(
    _squared_residuals_jvp, source="Golub and Pereyra (1973), SIAM J. Numer. Anal. 10, section 2"
)
