"""The LU factorisation A = P L U, what is solved with it, and their derivatives.

Sources: de Hoog, Anderssen, Lukas (2011), "Differentiation of matrix functionals using triangular factorization",
Mathematics of Computation 80; Giles (2008), "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", section 2.3.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import inexact_arrays, integer_array, linear_system, matrix, public, require_matrix
from linalgx._core.errors import NO_PIVOTS, first_true, nan_where, not_finite, report
from linalgx._core.matrix import H, after, diagonal, strictly_lower
from linalgx._core.operation import Operation
from linalgx._core.results import LUFactorExResult, LUFactorResult, LUResult
from linalgx._kernels import elimination, lapack
from linalgx._kernels.interchanges import interchange, permutation
from linalgx._kernels.select import small_kernel
from linalgx.triangular_systems import solve_triangular_p

ZERO_PIVOT = "U[{index}, {index}] is exactly zero"


@public("pivot")
def lu(a: ArrayLike, *, pivot: bool = True) -> LUResult:
    """LU factorisation with row interchanges: A = P L U.

    Args:
        a: shape (..., m, n), real or complex.
        pivot: interchange rows (partial pivoting). If False, P is the identity, and only matrices whose leading
            minors are not zero have a factorisation.

    Returns:
        With k = min(m, n): ``P``, a permutation matrix of shape (..., m, m); ``L``, (..., m, k), lower triangular
        with ones on its diagonal; ``U``, (..., k, n), upper triangular; all in the promoted dtype of a.

    Raises:
        ValueError: if a has less than two axes.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if there is no factorisation, which may be with ``pivot=False``.

    On failure:
        partial pivoting does not fail: a singular matrix has zeros on the diagonal of U. With ``pivot=False`` a zero
        pivot above a number that is not zero gives infinities and NaN in that member of the batch.

    Derivatives:
        of L and U, both modes, every order; P is piecewise constant. For m <= n the last pivot may be zero; another
        zero pivot gives NaN, since there the factors do not depend smoothly on the matrix.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> P, L, U = linalgx.lu(jnp.array([[1.0, 3.0], [2.0, 4.0]]))
        >>> P @ L @ U
        Array([[1., 3.],
               [2., 4.]], dtype=float32)

    Source:
        de Hoog, Anderssen, Lukas (2011), section 3.
    """
    A = matrix("lu", a=a)
    LU, pivots = lu_factor_p(A, pivot=pivot)
    if not pivot:
        report("lu", ZERO_PIVOT, _info_without_interchanges, A, LU)
    return _unpack(LU, pivots)


@public("pivot")
def lu_factor(a: ArrayLike, *, pivot: bool = True) -> LUFactorResult:
    """LU factorisation in the packed form that :func:`lu_solve` takes.

    Args:
        a: shape (..., m, n), real or complex.
        pivot: interchange rows (partial pivoting). If False, the pivots are 0, 1, 2, ...

    Returns:
        ``LU``, shape (..., m, n), L below the diagonal (its ones are not stored) and U on and above it; and
        ``pivots``, int32 of shape (..., min(m, n)): row i was interchanged with row pivots[i], in order, counted
        from 0 as in SciPy (torch counts from 1).

    Raises:
        ValueError: if a has less than two axes.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if U has a zero on its diagonal, as in torch.

    On failure:
        as :func:`lu`; :func:`lu_factor_ex` tells which matrices are singular.

    Derivatives:
        of LU as :func:`lu`; the pivots have none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.lu_factor(jnp.array([[1.0, 3.0], [2.0, 4.0]]))
        LUFactorResult(
            LU=Array([[2. , 4. ],
                      [0.5, 1. ]], dtype=float32),
            pivots=Array([1, 1], dtype=int32)
        )

    Source:
        de Hoog, Anderssen, Lukas (2011), section 3.
    """
    LU, pivots = lu_factor_p(matrix("lu_factor", a=a), pivot=pivot)
    report("lu_factor", ZERO_PIVOT, first_zero_pivot, LU)
    return LUFactorResult(LU, pivots)


@public("pivot", "check_errors")
def lu_factor_ex(a: ArrayLike, *, pivot: bool = True, check_errors: bool = False) -> LUFactorExResult:
    """LU factorisation in packed form, and for each matrix whether U has a zero on its diagonal.

    Args:
        a: shape (..., m, n), real or complex.
        pivot: interchange rows (partial pivoting).
        check_errors: raise if U has a zero on its diagonal, as all functions do inside :func:`raise_errors`.

    Returns:
        ``LU`` and ``pivots`` as :func:`lu_factor` gives them, and ``info``, int32 of shape (...): 0, or the number
        of the first diagonal element of U that is exactly zero, counted from 1.

    Raises:
        ValueError: if a has less than two axes.
        TypeError: if a is not an array of numbers.
        LinAlgError: with ``check_errors``, if U has a zero on its diagonal.

    On failure:
        a square matrix with a positive ``info`` is singular, and :func:`lu_solve` gives NaN for it.

    Derivatives:
        of LU as :func:`lu`; pivots and info have none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.lu_factor_ex(jnp.array([[1.0, 2.0], [2.0, 4.0]])).info
        Array(2, dtype=int32)

    Source:
        de Hoog, Anderssen, Lukas (2011), section 3.
    """
    LU, pivots = lu_factor_p(matrix("lu_factor_ex", a=a), pivot=pivot)
    info = first_zero_pivot(LU)
    if check_errors:
        report("lu_factor_ex", ZERO_PIVOT, lambda: info, always=True)
    return LUFactorExResult(LU, pivots, info)


@public("left", "adjoint")
def lu_solve(LU: ArrayLike, pivots: ArrayLike, b: ArrayLike, *, left: bool = True, adjoint: bool = False) -> jax.Array:
    """Solve A x = b, x A = b, A^H x = b or x A^H = b with the LU factorisation of A.

    Args:
        LU: shape (..., n, n), from :func:`lu_factor`.
        pivots: integers of shape (..., n), from :func:`lu_factor`, counted from 0: the i-th from i to n - 1.
        b: shape (..., n, k), or (..., k, n) for ``left=False``, or (n,) for one right-hand side. The leading axes
            of LU and b broadcast.
        left: A stands on the left of x; if False, on its right.
        adjoint: solve with A^H instead of A.

    Returns:
        x, of the shape of b (with the leading axes broadcast), in the promoted dtype of LU and b.

    Raises:
        ValueError: if LU is not square, or pivots or b do not fit it.
        TypeError: if LU or b is not an array of numbers, or pivots not one of integers.
        LinAlgError: inside :func:`raise_errors`, if U has a zero on its diagonal or the pivots are no row numbers.

    On failure:
        NaN in each member of the batch whose U has a zero on its diagonal, or whose pivots are not such row
        numbers (those of torch, which count from 1, are not).

    Derivatives:
        both modes, every order, with respect to LU and b.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> LU, pivots = linalgx.lu_factor(jnp.array([[1.0, 3.0], [2.0, 4.0]]))
        >>> linalgx.lu_solve(LU, pivots, jnp.array([4.0, 6.0]))
        Array([1., 1.], dtype=float32)

    Source:
        Giles (2008), section 2.3.1.
    """
    factors, B = inexact_arrays("lu_solve", LU=LU, b=b)
    order = integer_array("lu_solve", pivots=pivots)
    require_matrix("lu_solve", LU=factors)
    A, B, restore = linear_system("lu_solve", left, LU=factors, b=B)
    _require_pivots("lu_solve", factors, order)
    report("lu_solve", ZERO_PIVOT, _info_of_factors, factors, order)
    order = jnp.broadcast_to(order, A.shape[:-1])
    X = lu_solve_p(A, order, B, left=left, adjoint=adjoint)
    return restore(nan_where(_out_of_range(order, A), X))


@public("unpack_data", "unpack_pivots")
def lu_unpack(LU: ArrayLike, pivots: ArrayLike, unpack_data: bool = True, unpack_pivots: bool = True) -> LUResult:
    """P, L and U from the packed form that :func:`lu_factor` gives.

    Args:
        LU: shape (..., m, n), from :func:`lu_factor`.
        pivots: integers of shape (..., min(m, n)), from :func:`lu_factor`, counted from 0: the i-th from i to m - 1.
        unpack_data: if False, L and U come out empty, with shape (..., 0, 0).
        unpack_pivots: if False, P comes out empty, with shape (..., 0, 0).

    Returns:
        ``P``, ``L`` and ``U`` as :func:`lu` gives them.

    Raises:
        ValueError: if LU has less than two axes or pivots do not fit it.
        TypeError: if LU is not an array of numbers, or pivots not one of integers.
        LinAlgError: inside :func:`raise_errors`, if the pivots are no row numbers.

    On failure:
        NaN in P where the pivots are not such row numbers.

    Derivatives:
        both modes, every order, of L and U, which are parts of LU.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.lu_unpack(jnp.array([[2.0, 4.0], [0.5, 1.0]]), jnp.array([1, 1])).L
        Array([[1. , 0. ],
               [0.5, 1. ]], dtype=float32)
    """
    factors = matrix("lu_unpack", LU=LU)
    order = integer_array("lu_unpack", pivots=pivots)
    _require_pivots("lu_unpack", factors, order)
    report("lu_unpack", "", lambda *given: jnp.where(_out_of_range(*given), NO_PIVOTS, 0), order, factors)
    P, L, U = _unpack(factors, order)
    P = nan_where(_out_of_range(order, factors), P)
    nothing = factors[..., :0, :0]
    return LUResult(P if unpack_pivots else nothing, *((L, U) if unpack_data else (nothing, nothing)))


def _unpack(LU: jax.Array, pivots: jax.Array) -> LUResult:
    m = LU.shape[-2]
    order = permutation(pivots, m)
    P = (order[..., None, :] == jnp.arange(m, dtype=order.dtype)[:, None]).astype(LU.dtype)
    return LUResult(P, *_factors(LU))


def _factors(LU: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L and U."""
    m, n = LU.shape[-2:]
    k = min(m, n)
    return strictly_lower(LU[..., :k]) + jnp.eye(m, k, dtype=LU.dtype), jnp.triu(LU[..., :k, :])


def _require_pivots(function: str, LU: jax.Array, pivots: jax.Array) -> None:
    expected = (*LU.shape[:-2], min(LU.shape[-2:]))
    if pivots.shape != expected:
        raise ValueError(
            f"linalgx.{function}: pivots must have the shape {expected} for LU of shape {LU.shape}, "
            f"but {pivots.shape} came"
        )


def _out_of_range(pivots: jax.Array, LU: jax.Array) -> jax.Array:
    """Whether one is no row that elimination interchanges with: such a row lies below."""
    first = jnp.arange(pivots.shape[-1], dtype=pivots.dtype)
    return jnp.any((pivots < first) | (pivots >= LU.shape[-2]), axis=-1)


def first_zero_pivot(LU: jax.Array) -> jax.Array:
    """``info``: the number of the first diagonal element of U that is exactly zero, or 0."""
    return first_true(diagonal(LU) == 0)


def _info_without_interchanges(A: jax.Array, LU: jax.Array) -> jax.Array:
    """A zero pivot is a failure where something had to be eliminated with it."""
    return jnp.where(not_finite(LU) & ~not_finite(A), first_zero_pivot(LU), 0)


def _info_of_factors(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    return jnp.where(_out_of_range(pivots, LU), NO_PIVOTS, first_zero_pivot(LU))


# --- Factors in packed form: A = P L U


def _lu_factor(A: jax.Array, *, pivot: bool) -> tuple[jax.Array, jax.Array]:
    if pivot:
        return lapack.lu_factor(A)
    batch, k = A.shape[:-2], min(A.shape[-2:])
    return elimination.lu_without_interchanges(A), jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), (*batch, k))


lu_factor_p = Operation("lu_factor", _lu_factor, small=small_kernel("lu_factor"))


# Rules (de Hoog, Anderssen, Lukas 2011). Differentiate P^T A = L U:  P^T dA = dL U + L dU.
#
# m <= n. Let Y = L^-1 P^T dA = (L^-1 dL) U + dU, and U1 the square part of U on the left. L^-1 dL is strictly lower:
#   forward   K = stril(Y1 U1^-1),   dL = L K,   dU = triu(Y - K U)
#   reverse   M = stril(L^H L_bar - U_bar U^H),   A_bar = P L^-H [U_bar + (M U1^-H | 0)]
# The last pivot divides nothing here, because the last column of K and M is zero: it is set to 1, and may be zero.
#
# m > n. Let W = P^T dA U^-1, with rows W1 in the square part L1 of L and W2 below, as L2 in L:
#   forward   K = L1^-1 W1,   dL1 = L1 stril(K),   dL2 = W2 - L2 triu(K),   dU = triu(K) U
#   reverse   N = L1^-H triu(U_bar U^H - L^H L_bar),   A_bar = P [L_bar + (N over 0)] U^-H


def _lu_factor_fwd(A, *, pivot):
    LU, pivots = lu_factor_p(A, pivot=pivot)
    return (LU, pivots), (LU, pivots)


def _lu_factor_bwd(residuals, cotangents, *, pivot):
    LU, pivots = residuals
    m, n = LU.shape[-2:]
    k = min(m, n)
    L, U = _factors(LU)
    L_bar, U_bar = strictly_lower(cotangents[0][..., :, :k]), jnp.triu(cotangents[0][..., :k, :])
    through_L, through_U = H(L) @ L_bar, U_bar @ H(U)
    if m <= n:
        M = strictly_lower(through_L - through_U)
        left_part = _solve_upper(_with_last_pivot_one(LU[..., :k]), M, adjoint=True)
        Y_bar = jnp.concatenate([U_bar[..., :k] + left_part, U_bar[..., k:]], axis=-1)
        A_bar = _solve_lower(LU[..., :k], Y_bar, adjoint=True)
    else:
        N = _solve_lower(LU[..., :k, :], jnp.triu(through_U - through_L), adjoint=True)
        W_bar = jnp.concatenate([L_bar[..., :k, :] + N, L_bar[..., k:, :]], axis=-2)
        A_bar = _solve_upper(LU[..., :k, :], W_bar, adjoint=True)
    return (_interchange(pivots, A_bar, pivot, back=True),)


def _lu_factor_jvp(residuals, dA, *, pivot):
    LU, pivots = residuals
    m, n = LU.shape[-2:]
    k = min(m, n)
    L, U = _factors(LU)
    dA = _interchange(pivots, dA, pivot)
    if m <= n:
        Y = _solve_lower(LU[..., :k], dA)
        K = strictly_lower(_solve_upper(_with_last_pivot_one(LU[..., :k]), Y[..., :k]))
        dU = jnp.triu(Y - K @ U)
        return jnp.concatenate([dU[..., :k] + L @ K, dU[..., k:]], axis=-1), None
    W = _solve_upper(LU[..., :k, :], dA)
    K = _solve_lower(LU[..., :k, :], W[..., :k, :])
    dL1 = L[..., :k, :] @ strictly_lower(K)
    return jnp.concatenate([dL1 + jnp.triu(K) @ U, W[..., k:, :] - L[..., k:, :] @ jnp.triu(K)], axis=-2), None


lu_factor_p.defvjp(_lu_factor_fwd, _lu_factor_bwd)
lu_factor_p.defjvp(
    _lu_factor_jvp, source="de Hoog, Anderssen, Lukas (2011), Mathematics of Computation 80, 1585-1600, section 3"
)


def _with_last_pivot_one(LU: jax.Array) -> jax.Array:
    last = jnp.arange(LU.shape[-1]) == LU.shape[-1] - 1
    return jnp.where(last[None, :] & last[:, None], 1, LU)


def _interchange(pivots: jax.Array, X: jax.Array, pivot: bool, back: bool = False) -> jax.Array:
    """P^T X, or (``back``) P X."""
    return interchange(pivots, X, back=back) if pivot else X


def _solve_lower(LU: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """L^-1 X, or L^-H X."""
    return solve_triangular_p(LU, X, lower=True, left=True, unit_diagonal=True, adjoint=adjoint)


def _solve_upper(LU: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """X U^-1, or X U^-H."""
    return solve_triangular_p(LU, X, lower=False, left=False, unit_diagonal=False, adjoint=adjoint)


# --- Solution from the factors: op(A) X = B or X op(A) = B, where A = P L U and op(A) is A or A^H

lu_solve_p = Operation(
    "lu_solve", functools.partial(lapack.lu_solve, by_columns=False), linear_in=({2},), small=small_kernel("lu_solve")
)


# Rules (Giles 2008). For A X = B:
#   forward   dX = A^-1 (dB - P (dL U + L dU) X)
#   reverse   B_bar = A^-H X_bar,   A_bar = -S R^H with S = B_bar and R = X,
#             L_bar = stril(P^T A_bar U^H) = -stril((P^T S) (U R)^H),
#             U_bar = triu(L^H P^T A_bar) = -triu((L^H P^T S) R^H)
# The other three systems are this one with adjoints: S and R change places for A^H, and X and B_bar are replaced by
# their adjoints where A stands on the right.


def factors_of_gradient(X: jax.Array, B_bar: jax.Array, left: bool, adjoint: bool) -> tuple[jax.Array, jax.Array]:
    """S and R of A_bar = -S R^H, the gradient of a solution X with respect to the matrix of its system."""
    X, B_bar = (X, B_bar) if left else (H(X), H(B_bar))
    return (B_bar, X) if left != adjoint else (X, B_bar)


def _lu_solve_fwd(LU, pivots, B, *, left, adjoint):
    X = lu_solve_p(LU, pivots, B, left=left, adjoint=adjoint)
    return X, (LU, pivots, X)


def _lu_solve_bwd(residuals, X_bar, *, left, adjoint):
    LU, pivots, X = residuals
    B_bar = lu_solve_p(LU, pivots, after(X, X_bar), left=left, adjoint=not adjoint)
    S, R = factors_of_gradient(X, B_bar, left, adjoint)
    S = interchange(pivots, S)
    L, U = _factors(LU)
    return -(strictly_lower(S @ H(U @ R)) + jnp.triu((H(L) @ S) @ H(R))), None, B_bar


def _lu_solve_jvp(residuals, dLU, _, dB, *, left, adjoint):
    LU, pivots, X = residuals
    moved = None if dB is None else after(X, dB)
    if dLU is not None:
        through_A = _apply_change(LU, pivots, dLU, X if left else H(X), adjoint=left == adjoint)
        through_A = through_A if left else H(through_A)
        moved = -through_A if moved is None else moved - through_A
    return lu_solve_p(LU, pivots, moved, left=left, adjoint=adjoint)


lu_solve_p.defvjp(_lu_solve_fwd, _lu_solve_bwd)
lu_solve_p.defjvp(_lu_solve_jvp, source="Giles (2008), Collected matrix derivative results, section 2.3.1")


def _apply_change(LU: jax.Array, pivots: jax.Array, dLU: jax.Array, X: jax.Array, adjoint: bool) -> jax.Array:
    """The products dA X, or dA^H X, for dA = P (dL U + L dU)."""
    L, U = _factors(LU)
    dL, dU = strictly_lower(dLU), jnp.triu(dLU)
    if adjoint:
        X = interchange(pivots, X)
        return H(U) @ (H(dL) @ X) + H(dU) @ (H(L) @ X)
    return interchange(pivots, dL @ (U @ X) + L @ (dU @ X), back=True)
