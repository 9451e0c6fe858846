"""Triangular systems of equations: the workhorse of the decompositions' derivative rules.

Source: Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.3.1 (the inverse, here restricted to a triangle).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import inexact_arrays, linear_system, public, require_matrix
from linalgx._core.errors import first_true, report
from linalgx._core.matrix import H, after, diagonal, from_diagonal
from linalgx._core.operation import Operation
from linalgx._kernels import lapack
from linalgx._kernels.select import small_kernel


@public("upper", "left", "unitriangular")
def solve_triangular(
    a: ArrayLike, b: ArrayLike, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> jax.Array:
    """Solve a x = b, or x a = b, for a triangular matrix a.

    Args:
        a: shape (..., n, n), real or complex; only the triangle that ``upper`` names is read.
        b: shape (..., n, k), or (..., k, n) for ``left=False``, or (n,) for one right-hand side. The leading axes
            of a and b broadcast.
        upper: whether a is upper triangular; it has no default, as in torch.
        left: solve a x = b; if False, x a = b.
        unitriangular: take the diagonal of a to be ones, without reading it.

    Returns:
        x, of the shape of b (with the leading axes broadcast), in the promoted dtype of a and b.

    Raises:
        ValueError: if a is not square or b does not fit it.
        TypeError: if an argument is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if a has a zero on its diagonal.

    On failure:
        a zero on the diagonal gives infinities and NaN in that member of the batch.

    Derivatives:
        both modes, every order, with respect to a (zero outside the triangle that is read) and b.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.solve_triangular(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 5.0]), upper=False)
        Array([1., 1.], dtype=float32)

    Source:
        Giles (2008), section 2.3.1.
    """
    A, B = inexact_arrays("solve_triangular", a=a, b=b)
    require_matrix("solve_triangular", a=A)
    triangle = A
    A, B, restore = linear_system("solve_triangular", left, a=A, b=B)
    if not unitriangular:
        report("solve_triangular", "a[{index}, {index}] is exactly zero", _first_zero, triangle)
    return restore(solve_triangular_p(A, B, lower=not upper, left=left, unit_diagonal=unitriangular, adjoint=False))


def _first_zero(A: jax.Array) -> jax.Array:
    return first_true(diagonal(A) == 0)


# The operation solves op(A) X = B (left) or X op(A) = B, where op(A) is A or, if adjoint, A^H.


def _solve(A: jax.Array, B: jax.Array, *, lower: bool, left: bool, unit_diagonal: bool, adjoint: bool) -> jax.Array:
    transpose = "H" if adjoint else "N"
    return lapack.solve_triangular(A, B, lower=lower, left=left, transpose=transpose, unit_diagonal=unit_diagonal)


solve_triangular_p = Operation("solve_triangular", _solve, linear_in=({1},), small=small_kernel("solve_triangular"))


# Rules. With tri(.) the triangle that is read, for op(A) = A (and for A^H with (.)^H around dA and A_bar):
#   left     A X = B    dX = A^-1 (dB - tri(dA) X)    B_bar = A^-H X_bar    A_bar = tri(-B_bar X^H)
#   right    X A = B    dX = (dB - X tri(dA)) A^-1    B_bar = X_bar A^-H    A_bar = tri(-X^H B_bar)


def _fwd(A, B, **options):
    X = solve_triangular_p(A, B, **options)
    return X, (A, X)


def _bwd(residuals, X_bar, *, lower, left, unit_diagonal, adjoint):
    A, X = residuals
    B_bar = solve_triangular_p(
        A, after(X, X_bar), lower=lower, left=left, unit_diagonal=unit_diagonal, adjoint=not adjoint
    )
    A_bar = -(B_bar @ H(X) if left else H(X) @ B_bar)
    return _triangle(H(A_bar) if adjoint else A_bar, lower, unit_diagonal), B_bar


def _jvp(residuals, dA, dB, *, lower, left, unit_diagonal, adjoint):
    A, X = residuals
    moved = None if dB is None else after(X, dB)
    if dA is not None:
        dA = _triangle(dA, lower, unit_diagonal)
        dA = H(dA) if adjoint else dA
        through_A = dA @ X if left else X @ dA
        moved = -through_A if moved is None else moved - through_A
    return solve_triangular_p(A, moved, lower=lower, left=left, unit_diagonal=unit_diagonal, adjoint=adjoint)


solve_triangular_p.defvjp(_fwd, _bwd)
solve_triangular_p.defjvp(_jvp, source="Giles (2008), Collected matrix derivative results, section 2.3.1")


def _triangle(X: jax.Array, lower: bool, unit_diagonal: bool) -> jax.Array:
    triangle = jnp.tril(X) if lower else jnp.triu(X)
    return triangle - from_diagonal(diagonal(X)) if unit_diagonal else triangle
