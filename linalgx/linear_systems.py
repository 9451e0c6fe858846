"""Linear systems A X = B and the inverse, through the LU factorisation, and their derivatives.

Source: Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", sections 2.2.3 and 2.3.1.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import (
    inexact_array,
    inexact_arrays,
    integer,
    linear_system,
    normalize_axes,
    public,
    square_matrix,
)
from linalgx._core.batch_minor import extent
from linalgx._core.errors import first_true, report
from linalgx._core.matrix import H, after, diagonal, identity
from linalgx._core.operation import Operation
from linalgx._core.results import InvExResult, SolveExResult
from linalgx._kernels import lapack
from linalgx._kernels.select import small_kernel
from linalgx.cofactors import inverse_by_cofactors_p
from linalgx.decompositions.lu import factors_of_gradient, first_zero_pivot, lu_factor_p

SINGULAR = "the matrix is singular: U[{index}, {index}] is exactly zero"


@public("left")
def solve(a: ArrayLike, b: ArrayLike, *, left: bool = True) -> jax.Array:
    """Solve the linear system a x = b, or x a = b.

    Args:
        a: shape (..., n, n), real or complex.
        b: shape (..., n, k), or (..., k, n) for ``left=False``, or (n,) for one right-hand side; only an array with
            one axis is a vector. The leading axes of a and b broadcast.
        left: solve a x = b; if False, x a = b.

    Returns:
        x, of the shape of b (with the leading axes broadcast), in the promoted dtype of a and b.

    Raises:
        ValueError: if a is not square or b does not fit it.
        TypeError: if an argument is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix is exactly singular.

    On failure:
        NaN for each matrix that is exactly singular, and for no other; :func:`solve_ex` tells which.

    Derivatives:
        both modes, every order, with respect to a and b. However often it is differentiated, a is factored once.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.solve(jnp.array([[1.0, 3.0], [2.0, 4.0]]), jnp.array([4.0, 6.0]))
        Array([1., 1.], dtype=float32)

    Source:
        Giles (2008), section 2.3.1.
    """
    X, info = _solve("solve", a, b, left)
    report("solve", SINGULAR, lambda: info)
    return X


@public("left", "check_errors")
def solve_ex(a: ArrayLike, b: ArrayLike, *, left: bool = True, check_errors: bool = False) -> SolveExResult:
    """Solve the linear system a x = b, or x a = b, and tell for each matrix whether it is singular.

    Args:
        a: shape (..., n, n), real or complex.
        b: shape (..., n, k), or (..., k, n) for ``left=False``, or (n,) for one right-hand side. The leading axes
            of a and b broadcast.
        left: solve a x = b; if False, x a = b.
        check_errors: raise if a matrix is exactly singular, as all functions do inside :func:`raise_errors`.

    Returns:
        ``result``, as :func:`solve` gives it, and ``info``, int32 with the batch shape of a: 0, or the number of
        the first pivot of the elimination that is exactly zero, counted from 1.

    Raises:
        ValueError: if a is not square or b does not fit it.
        TypeError: if an argument is not an array of numbers.
        LinAlgError: with ``check_errors``, if a matrix is exactly singular.

    On failure:
        NaN in that result alone, and its ``info`` is positive.

    Derivatives:
        of the result as :func:`solve`; info has none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.solve_ex(jnp.array([[1.0, 2.0], [2.0, 4.0]]), jnp.ones(2)).info
        Array(2, dtype=int32)

    Source:
        Giles (2008), section 2.3.1.
    """
    X, info = _solve("solve_ex", a, b, left)
    if check_errors:
        report("solve_ex", SINGULAR, lambda: info, always=True)
    return SolveExResult(X, info)


@public()
def inv(a: ArrayLike) -> jax.Array:
    """Inverse of a square matrix.

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        The inverse, shape (..., n, n), in the promoted dtype of a.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a matrix is exactly singular.

    On failure:
        NaN for each matrix that is exactly singular, and for no other; :func:`inv_ex` tells which.

    Derivatives:
        both modes, every order; products alone, no further solve.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.inv(jnp.array([[2.0, 0.0], [0.0, 4.0]]))
        Array([[0.5 , 0.  ],
               [0.  , 0.25]], dtype=float32)

    Source:
        Giles (2008), section 2.2.3.
    """
    return reported_inverse("inv", square_matrix("inv", a=a))


@public("check_errors")
def inv_ex(a: ArrayLike, *, check_errors: bool = False) -> InvExResult:
    """Inverse of a square matrix, and for each matrix whether it is singular.

    Args:
        a: shape (..., n, n), real or complex.
        check_errors: raise if a matrix is exactly singular, as all functions do inside :func:`raise_errors`.

    Returns:
        ``inverse``, as :func:`inv` gives it, and ``info``, int32 of shape (...): 0, or the number of the first
        pivot of the elimination that is exactly zero, counted from 1.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: with ``check_errors``, if a matrix is exactly singular.

    On failure:
        NaN in that inverse alone, and its ``info`` is positive.

    Derivatives:
        of the inverse as :func:`inv`; info has none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.inv_ex(jnp.array([[1.0, 2.0], [2.0, 4.0]])).info
        Array(2, dtype=int32)

    Source:
        Giles (2008), section 2.2.3.
    """
    X, info = inverse(square_matrix("inv_ex", a=a))
    if check_errors:
        report("inv_ex", SINGULAR, lambda: info, always=True)
    return InvExResult(X, info)


@public("axes", lists=("axes",))
def tensorsolve(a: ArrayLike, b: ArrayLike, axes: tuple[int, ...] | None = None) -> jax.Array:
    """Solve the tensor equation a x = b, where the last axes of a are summed with all axes of x.

    Args:
        a: shape ``(*b.shape, *x.shape)``, once ``axes`` are moved, with as many elements in x as in b. Of b.shape only
            the numbers of axes and elements are compared, as in NumPy.
        b: the right-hand side, of any shape.
        axes: axes of a that are moved to its end, in this order, before the equation is read.

    Returns:
        x, in the promoted dtype of a and b, with ``tensordot(a, x, x.ndim) == b``.

    Raises:
        ValueError: if a and b do not make a square system, or axes are not axes of a.
        TypeError: if an argument is not an array of numbers, or axes are not integers.
        LinAlgError: inside :func:`raise_errors`, if the system is exactly singular.

    On failure:
        NaN if the system is exactly singular.

    Derivatives:
        both modes, every order, with respect to a and b.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> a = 2 * jnp.eye(6).reshape(2, 3, 6)
        >>> linalgx.tensorsolve(a, jnp.ones((2, 3)))
        Array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], dtype=float32)

    Source:
        Giles (2008), section 2.3.1.
    """
    A, B = inexact_arrays("tensorsolve", a=a, b=b)
    if axes is not None:
        moved = normalize_axes("tensorsolve", "axes", axes, A.ndim)
        A = jnp.moveaxis(A, moved, range(A.ndim - len(moved), A.ndim))
    shape, size = A.shape[B.ndim :], B.size
    if B.ndim > A.ndim or math.prod(A.shape[: B.ndim]) != size or math.prod(shape) != size:
        raise ValueError(
            "linalgx.tensorsolve: a must have the shape of b and then that of the solution, with as many elements, "
            f"but a of shape {A.shape} and b of shape {B.shape} came"
        )
    X, info = _solve("tensorsolve", A.reshape(size, size), B.reshape(size), True)
    report("tensorsolve", SINGULAR, lambda: info)
    return X.reshape(shape)


@public("ind")
def tensorinv(a: ArrayLike, ind: int = 2) -> jax.Array:
    """Inverse of a tensor as a linear map from its last axes to its first ``ind`` axes.

    Args:
        a: an array whose first ``ind`` axes hold as many elements as the others.
        ind: how many axes belong to the image of the map.

    Returns:
        The inverse, of shape ``a.shape[ind:] + a.shape[:ind]``, in the promoted dtype of a: ``tensordot`` of it with
        an array b over ind axes solves the equation that :func:`tensorsolve` solves.

    Raises:
        ValueError: if ind is not positive or a is not square as that map.
        TypeError: if a is not an array of numbers or ind not an integer.
        LinAlgError: inside :func:`raise_errors`, if the map is exactly singular.

    On failure:
        NaN if the map is exactly singular.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.tensorinv(jnp.eye(6).reshape(2, 3, 6)).shape
        (6, 2, 3)

    Source:
        Giles (2008), section 2.2.3.
    """
    A, ind = inexact_array("tensorinv", a=a), integer("tensorinv", "ind", ind)
    if ind <= 0:
        raise ValueError(f"linalgx.tensorinv: ind must be positive, but {ind} came")
    rows, columns = A.shape[:ind], A.shape[ind:]
    if math.prod(rows) != math.prod(columns):
        raise ValueError(
            "linalgx.tensorinv: a must have as many elements in its first ind axes as in the others, "
            f"but a of shape {A.shape} and ind = {ind} came"
        )
    size = math.prod(rows)
    return reported_inverse("tensorinv", A.reshape(size, size)).reshape(columns + rows)


def reported_inverse(function: str, A: jax.Array) -> jax.Array:
    """The inverse of A, for a public function that fails where there is none."""
    X, info = inverse(A)
    report(function, SINGULAR, lambda: info)
    return X


def inverse(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse and its ``info``: by cofactors of at most two rows, which find every singular matrix among these."""
    X, info = (inverse_by_cofactors_p if 0 < extent(A.shape[-1]) <= 2 else inv_p)(A)
    return X, info


def _solve(function: str, a: Any, b: Any, left: bool) -> tuple[jax.Array, jax.Array]:
    """The solution and its ``info``."""
    A, B = inexact_arrays(function, a=a, b=b)
    A = square_matrix(function, a=A)
    LU, pivots = lu_factor_p(jax.lax.stop_gradient(A), pivot=True)
    A, B, restore = linear_system(function, left, a=A, b=B)
    # a is factored before its batch is broadcast against that of b
    factors = jnp.broadcast_to(LU, A.shape), jnp.broadcast_to(pivots, A.shape[:-1])
    X = solve_p(A, *factors, B, left=left, adjoint=False)
    return restore(X), first_zero_pivot(LU)


# --- Solution: op(A) X = B or X op(A) = B, where op(A) is A or A^H

# The factors of A are arguments, so that one factorisation serves all orders of derivatives; those go through A.
solve_p = Operation(
    "solve",
    lambda A, LU, pivots, B, *, left, adjoint: lapack.lu_solve(LU, pivots, B, left=left, adjoint=adjoint),
    linear_in=({3},),
    small=small_kernel("solve"),
)


# Rules (Giles 2008). For A X = B:
#   forward   dX = A^-1 (dB - dA X)
#   reverse   B_bar = A^-H X_bar,   A_bar = -B_bar X^H
# The other three systems are this one with adjoints; A_bar = -S R^H with the S and R of factors_of_gradient.


def _solve_fwd(A, LU, pivots, B, *, left, adjoint):
    X = solve_p(A, LU, pivots, B, left=left, adjoint=adjoint)
    return X, (A, LU, pivots, X)


def _solve_bwd(residuals, X_bar, *, left, adjoint):
    A, LU, pivots, X = residuals
    B_bar = solve_p(A, LU, pivots, after(X, X_bar), left=left, adjoint=not adjoint)
    S, R = factors_of_gradient(X, B_bar, left, adjoint)
    return -(S @ H(R)), None, None, B_bar


def _solve_jvp(residuals, dA, _dLU, _dpivots, dB, *, left, adjoint):
    A, LU, pivots, X = residuals
    moved = None if dB is None else after(X, dB)
    if dA is not None:
        dA = H(dA) if adjoint else dA
        through_A = dA @ X if left else X @ dA
        moved = -through_A if moved is None else moved - through_A
    return solve_p(A, LU, pivots, moved, left=left, adjoint=adjoint)


solve_p.defvjp(_solve_fwd, _solve_bwd)
solve_p.defjvp(_solve_jvp, source="Giles (2008), Collected matrix derivative results, section 2.3.1")


# --- Inverse and info: X = A^-1


def _inv(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    LU, pivots = lapack.lu_factor(A)
    X = lapack.lu_solve(LU, pivots, identity(A), left=True, adjoint=False)
    return X, first_true(diagonal(LU) == 0)


inv_p = Operation("inv", _inv, small=small_kernel("inv"))


# Rules (Giles 2008).
#   forward   dX = -X dA X
#   reverse   A_bar = -X^H X_bar X^H


def _inv_fwd(A):
    X, info = inv_p(A)
    return (X, info), (X,)


def _inv_bwd(residuals, cotangents):
    (X,) = residuals
    return (-(H(X) @ (cotangents[0] @ H(X))),)


def _inv_jvp(residuals, dA):
    (X,) = residuals
    return -(X @ (dA @ X)), None


inv_p.defvjp(_inv_fwd, _inv_bwd)
inv_p.defjvp(_inv_jvp, source="Giles (2008), Collected matrix derivative results, section 2.2.3")
