"""Integer powers of a matrix.

Source: Knuth, "The Art of Computer Programming", volume 2, section 4.6.3 (powers by repeated squaring).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import array, inexact_array, integer, public, require_matrix, require_square
from linalgx._core.matrix import identity
from linalgx.linear_systems import inv_p


@public("n")
def matrix_power(a: ArrayLike, n: int) -> jax.Array:
    """Integer power of a square matrix; a negative one is a power of the inverse.

    Args:
        a: shape (..., k, k), any dtype.
        n: any integer. It is part of the compiled program: each n is compiled by itself.

    Returns:
        The power, shape (..., k, k), in the dtype of a, or, of integers and n < 0, in their promoted dtype. n = 0
        gives the identity, whatever a is.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers or n is not an integer.

    On failure:
        n < 0: NaN in each power of a matrix that is singular, and in no other.

    Derivatives:
        both modes, every order.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_power(jnp.array([[1, 1], [1, 0]]), 10)
        Array([[89, 55],
               [55, 34]], dtype=int32)

    Source:
        Knuth, The Art of Computer Programming, section 4.6.3.
    """
    exponent = integer("matrix_power", "n", n)
    A = array("matrix_power", a=a)
    if exponent < 0 or jnp.issubdtype(A.dtype, jnp.inexact):
        A = inexact_array("matrix_power", a=A)
    require_matrix("matrix_power", a=A)
    require_square("matrix_power", a=A)
    return _power(inv_p(A)[0] if exponent < 0 else A, abs(exponent))


def _power(A: jax.Array, n: int) -> jax.Array:
    """A^n as the product of those squares A, A^2, A^4, ... that the binary digits of n name."""
    if n == 0:
        return identity(A)
    factors = []
    while n:
        if n % 2:
            factors.append(A)
        n //= 2
        A = A @ A if n else A
    return functools.reduce(jnp.matmul, factors)
