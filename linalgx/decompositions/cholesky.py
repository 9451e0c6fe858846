"""The Cholesky factorisation A = L L^H, what is solved with it, and their derivatives.

Sources: Murray (2016), "Differentiation of the Cholesky decomposition", arXiv:1602.07527; Giles (2008), "Collected
matrix derivative results for forward and reverse mode algorithmic differentiation", section 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import inexact_arrays, linear_system, public, require_matrix, square_matrix
from linalgx._core.composite import composite
from linalgx._core.errors import blame_input, first_true, report
from linalgx._core.matrix import H, after, diagonal, hermitian_from_triangle, hermitian_part, identity, lower_half
from linalgx._core.operation import Operation
from linalgx._core.results import CholeskyExResult
from linalgx._kernels import elimination, lapack
from linalgx._kernels.select import small_kernel
from linalgx.triangular_systems import solve_triangular_p

NOT_POSITIVE_DEFINITE = "the leading minor of order {order} is not positive definite"
ZERO_DIAGONAL = "L[{index}, {index}] is exactly zero"


@public("upper", "symmetrize_input")
def cholesky(a: ArrayLike, *, upper: bool = False, symmetrize_input: bool = True) -> jax.Array:
    """Cholesky factor of a Hermitian positive definite matrix: A = L L^H, or A = U^H U.

    Args:
        a: shape (..., n, n), real or complex. Its Hermitian part (A + A^H)/2 is factored.
        upper: return the upper factor U instead of L.
        symmetrize_input: if False, read only the triangle that ``upper`` names, as NumPy and torch do.

    Returns:
        The triangular factor, shape (..., n, n), with a real positive diagonal, in the promoted dtype of a.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix is not positive definite.

    On failure:
        NaN in the factor of each matrix that is not positive definite (one that holds NaN is not), and in no other;
        :func:`cholesky_ex` tells which leading minor failed.

    Derivatives:
        both modes, every order. The gradient is Hermitian (with ``symmetrize_input=False`` it lies in the triangle
        that is read).

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
        Array([[2., 0.],
               [1., 2.]], dtype=float32)

    Source:
        Murray (2016), arXiv:1602.07527, equations 8 and 9.
    """
    A = _read("cholesky", a, upper, symmetrize_input)
    L = cholesky_p(A)
    report("cholesky", NOT_POSITIVE_DEFINITE, _info, A, L)
    return H(L) if upper else L


@public("upper", "check_errors", "symmetrize_input")
def cholesky_ex(
    a: ArrayLike, *, upper: bool = False, check_errors: bool = False, symmetrize_input: bool = True
) -> CholeskyExResult:
    """Cholesky factor of a Hermitian matrix, and for each matrix whether it is positive definite.

    Args:
        a: shape (..., n, n), real or complex. Its Hermitian part (A + A^H)/2 is factored.
        upper: return the upper factor instead of the lower.
        check_errors: raise if a matrix is not positive definite, as all functions do inside :func:`raise_errors`.
        symmetrize_input: if False, read only the triangle that ``upper`` names, as torch does.

    Returns:
        ``L``, shape (..., n, n), as :func:`cholesky` gives it, and ``info``, int32 of shape (...): 0, or the order
        of the first leading minor that is not positive definite.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: with ``check_errors``, if a matrix is not positive definite.

    On failure:
        NaN in that factor alone, and its ``info`` is positive.

    Derivatives:
        of L as :func:`cholesky`; info has none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cholesky_ex(jnp.array([[1.0, 2.0], [2.0, 1.0]])).info
        Array(2, dtype=int32)

    Source:
        Murray (2016), arXiv:1602.07527.
    """
    A = _read("cholesky_ex", a, upper, symmetrize_input)
    L = cholesky_p(A)
    info = cholesky_info_p(jax.lax.stop_gradient(A), jax.lax.stop_gradient(L))
    if check_errors:
        report("cholesky_ex", NOT_POSITIVE_DEFINITE, blame_input, info, A, always=True)
    return CholeskyExResult(H(L) if upper else L, info)


@public("upper")
def cholesky_solve(b: ArrayLike, L: ArrayLike, upper: bool = False) -> jax.Array:
    """Solve A x = b with the Cholesky factor of A.

    Args:
        b: shape (..., n, k), or (n,) for one right-hand side. The leading axes of b and L broadcast.
        L: shape (..., n, n), the factor that :func:`cholesky` gives; only its triangle is read.
        upper: L is the upper factor: A = L^H L.

    Returns:
        x, of the shape of b (with the leading axes broadcast), in the promoted dtype of b and L.

    Raises:
        ValueError: if L is not square or b does not fit it.
        TypeError: if an argument is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if L has a zero on its diagonal.

    On failure:
        a zero on the diagonal of L gives infinities and NaN in that member of the batch.

    Derivatives:
        both modes, every order, with respect to b and L (zero outside its triangle).

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cholesky_solve(jnp.array([6.0, 7.0]), jnp.array([[2.0, 0.0], [1.0, 2.0]]))
        Array([1., 1.], dtype=float32)

    Source:
        Giles (2008), section 2.3.1.
    """
    B, factor = inexact_arrays("cholesky_solve", b=b, L=L)
    require_matrix("cholesky_solve", L=factor)
    report("cholesky_solve", ZERO_DIAGONAL, _first_zero, factor)
    factor, B, restore = linear_system("cholesky_solve", L=factor, b=B)
    return restore(cholesky_solve_p(H(factor) if upper else factor, B))


@public("upper")
def cholesky_inverse(L: ArrayLike, upper: bool = False) -> jax.Array:
    """Inverse of a Hermitian positive definite matrix from its Cholesky factor.

    Args:
        L: shape (..., n, n), the factor that :func:`cholesky` gives; only its triangle is read.
        upper: L is the upper factor: A = L^H L.

    Returns:
        The inverse of A, shape (..., n, n), Hermitian, in the promoted dtype of L.

    Raises:
        ValueError: if the last two axes of L differ.
        TypeError: if L is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if L has a zero on its diagonal.

    On failure:
        a zero on the diagonal of L gives infinities and NaN in that member of the batch.

    Derivatives:
        both modes, every order; zero outside the triangle of L.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cholesky_inverse(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        Array([[0.25, 0.  ],
               [0.  , 1.  ]], dtype=float32)

    Source:
        Giles (2008), sections 2.2.3 and 2.3.1.
    """
    factor = square_matrix("cholesky_inverse", L=L)
    report("cholesky_inverse", ZERO_DIAGONAL, _first_zero, factor)
    return cholesky_inverse_p(H(factor) if upper else factor)


@public()
def cholesky_logdet(L: ArrayLike) -> jax.Array:
    """Logarithm of the determinant of a Hermitian positive definite matrix from its Cholesky factor.

    Args:
        L: shape (..., n, n), the factor, lower or upper, that :func:`cholesky` gives; only its diagonal is read.

    Returns:
        The logarithm, real, shape (...), in the promoted real dtype of L; 0 for n = 0.

    Raises:
        ValueError: if the last two axes of L differ.
        TypeError: if L is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if L has a negative number on its diagonal.

    On failure:
        NaN where the factorisation failed or L has a negative number on its diagonal; -inf where it has a zero there.

    Derivatives:
        both modes, every order; zero off the diagonal of L.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cholesky_logdet(jnp.array([[1.0, 0.0], [5.0, 1.0]]))
        Array(0., dtype=float32)
    """
    factor = square_matrix("cholesky_logdet", L=L)
    report("cholesky_logdet", "L[{index}, {index}] is negative", _first_negative, factor)
    return _logdet_of_factor(factor)


@composite(rank=2)
def _logdet_of_factor(L: jax.Array) -> jax.Array:
    return 2 * jnp.sum(jnp.log(jnp.real(diagonal(L))), axis=-1)


def _read(function: str, a: ArrayLike, upper: bool, symmetrize: bool) -> jax.Array:
    A = square_matrix(function, a=a)
    return A if symmetrize else hermitian_from_triangle(A, lower=not upper)


def _info(A: jax.Array, L: jax.Array) -> jax.Array:
    return blame_input(cholesky_info_p(A, L), A)


def _first_zero(L: jax.Array) -> jax.Array:
    return first_true(diagonal(L) == 0)


def _first_negative(L: jax.Array) -> jax.Array:
    return first_true(jnp.real(diagonal(L)) < 0)


# --- Cholesky factor: A = L L^H

cholesky_p = Operation("cholesky", lambda A: lapack.cholesky(hermitian_part(A)), small=small_kernel("cholesky"))
cholesky_info_p = Operation("cholesky_info", lambda A, L: elimination.first_failing_minor(hermitian_part(A), L))


# Rules (Murray 2016). Differentiate A = L L^H and multiply by L^-1 and L^-H: the Hermitian M = L^-1 dA L^-H is
# L^-1 dL plus its adjoint, and L^-1 dL is lower triangular with a real diagonal; hence, Phi the lower half,
#   forward   dL = L Phi(L^-1 dA L^-H)
#   reverse   A_bar = Hermitian part of L^-H Phi(L^H L_bar) L^-1


def _cholesky_fwd(A):
    L = cholesky_p(A)
    return L, (L,)


def _cholesky_bwd(residuals, L_bar):
    (L,) = residuals
    P = lower_half(H(L) @ L_bar)
    return (hermitian_part(_solve_right(L, _solve_left(L, P, adjoint=True))),)


def _cholesky_jvp(residuals, dA):
    (L,) = residuals
    M = _solve_right(L, _solve_left(L, hermitian_part(dA)), adjoint=True)
    return L @ lower_half(M)


cholesky_p.defvjp(_cholesky_fwd, _cholesky_bwd)
cholesky_p.defjvp(_cholesky_jvp, source="Murray (2016), arXiv:1602.07527, equations 8 and 9")


# --- Solution from the factor: X = (L L^H)^-1 B


def _cholesky_solve(L: jax.Array, B: jax.Array) -> jax.Array:
    Y = lapack.solve_triangular(L, B, lower=True)
    return lapack.solve_triangular(L, Y, lower=True, transpose="H")


cholesky_solve_p = Operation("cholesky_solve", _cholesky_solve, linear_in=({1},), small=small_kernel("cholesky_solve"))


# Rules. With A = L L^H, dA = dL L^H + L dL^H, and the steps L Y = B, L^H X = Y and L Y_bar = X_bar, L^H B_bar = Y_bar,
#   forward   dX = A^-1 (dB - dA X)
#   reverse   L_bar = -tril(X Y_bar^H + B_bar Y^H)


def _cholesky_solve_fwd(L, B):
    Y = _solve_left(L, B)
    X = _solve_left(L, Y, adjoint=True)
    return X, (L, Y, X)


def _cholesky_solve_bwd(residuals, X_bar):
    L, Y, X = residuals
    Y_bar = _solve_left(L, after(X, X_bar))
    B_bar = _solve_left(L, Y_bar, adjoint=True)
    return -jnp.tril(X @ H(Y_bar) + B_bar @ H(Y)), B_bar


def _cholesky_solve_jvp(residuals, dL, dB):
    L, _, X = residuals
    moved = None if dB is None else after(X, dB)
    if dL is not None:
        dL, L0 = jnp.tril(dL), jnp.tril(L)
        through_L = dL @ (H(L0) @ X) + L0 @ (H(dL) @ X)
        moved = -through_L if moved is None else moved - through_L
    return cholesky_solve_p(L, moved)


cholesky_solve_p.defvjp(_cholesky_solve_fwd, _cholesky_solve_bwd)
cholesky_solve_p.defjvp(_cholesky_solve_jvp, source="Giles (2008), Collected matrix derivative results, section 2.3.1")


# --- Inverse from the factor: X = (L L^H)^-1


def _cholesky_inverse(L: jax.Array) -> jax.Array:
    Y = lapack.solve_triangular(L, identity(L), lower=True)
    return H(Y) @ Y


cholesky_inverse_p = Operation("cholesky_inverse", _cholesky_inverse, small=small_kernel("cholesky_inverse"))


# Rules.
#   forward   dX = -X (dL L^H + L dL^H) X
#   reverse   L_bar = tril(-X (X_bar + X_bar^H) X L),   where X L = L^-H


def _cholesky_inverse_fwd(L):
    X = cholesky_inverse_p(L)
    return X, (L, X)


def _cholesky_inverse_bwd(residuals, X_bar):
    L, X = residuals
    return (-jnp.tril(X @ ((X_bar + H(X_bar)) @ (X @ jnp.tril(L)))),)


def _cholesky_inverse_jvp(residuals, dL):
    L, X = residuals
    W = (X @ jnp.tril(dL)) @ (H(jnp.tril(L)) @ X)
    return -(W + H(W))


cholesky_inverse_p.defvjp(_cholesky_inverse_fwd, _cholesky_inverse_bwd)
cholesky_inverse_p.defjvp(
    _cholesky_inverse_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.3"
)


def _solve_left(L: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """L^-1 X, or L^-H X."""
    return solve_triangular_p(L, X, lower=True, left=True, unit_diagonal=False, adjoint=adjoint)


def _solve_right(L: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """X L^-1, or X L^-H."""
    return solve_triangular_p(L, X, lower=True, left=False, unit_diagonal=False, adjoint=adjoint)
