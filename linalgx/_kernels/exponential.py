"""The matrix exponential and its Fréchet derivatives by scaling, a Taylor polynomial and squaring, in any layout.

exp(A) = T18(A / 2^s)^(2^s), where T18 is the Taylor polynomial of degree 18 and 2^s, for each matrix its own, the
power of two that brings A into the disk where T18 is exact to rounding. With s held fixed this is a polynomial in A;
its derivatives are those of the recurrence.

T18 takes five products: with polynomials p_i in A, A^2, A^3 and A^6 that have no constant term,
  U = p_1 p_2,   T18 = I + p_5 + k U + (U + p_3)(U + p_4).
This is the scheme of Bader, Blanes & Casas (2019), section 3.3, after its constants are multiplied out, so that
exp(0) = I, and exp(A) = I + A if A^2 = 0, hold without a rounding error.

Sources: Bader, Blanes & Casas (2019), "Computing the matrix exponential with an optimized Taylor polynomial
approximation", Mathematics 7, 1174 (degree 18 in five products); Al-Mohy & Higham (2009), "Computing the Fréchet
derivative of the matrix exponential, with an application to condition number estimation", SIAM J. Matrix Anal.
Appl. 30, 1639 (the differentiated recurrence); Al-Mohy & Higham (2009), "A new scaling and squaring algorithm for
the matrix exponential", SIAM J. Matrix Anal. Appl. 31, 970 (less scaling of non-normal matrices).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

_P1 = (0.10036558103014462, 0.0080292464824115693, 0.00089213849804572999)
_P2 = (0.0, 0.092336461936711856, 0.016936493900208172, 1.4008679818203609e-5)
_P3 = (1.6125176868819239, 0.12477411482493252, 0.022573155818051032, 1.9579475957000978e-5)
_P4 = (-0.067640451907138188, 0.067596130177045965, 0.029555257042931552, -1.3918025751606069e-5)
_P5 = (1.0, 0.60907142504894648, 0.16942415471701653, -0.00048576227860552416)
_K = -11.148502971774368
_DEGREE = 18


class Layout(NamedTuple):
    """How the arrays are computed with.

    Attributes:
        axes: those of the rows and of the columns; all others are batch axes.
        multiply: the product of two matrices.
        largest: the largest entry of a matrix of positive entries with one row, as a matrix.
        keep: called on what several later steps read.
    """

    axes: tuple[int, int]
    multiply: Callable[[jax.Array, jax.Array], jax.Array]
    largest: Callable[[jax.Array], jax.Array]
    keep: Callable[[jax.Array], jax.Array] = lambda x: x


LEADING = Layout((-2, -1), jnp.matmul, lambda x: jnp.max(x, axis=(-2, -1), keepdims=True, initial=0))
"""Any number of batch axes, in front."""


def matrix_exp(layout: Layout, A: jax.Array, *directions: jax.Array) -> jax.Array:
    """The Fréchet derivative of exp at A in the given directions; exp(A) without a direction."""
    s = layout.keep(_squarings(layout, A, order=len(directions)))
    scale = exact_power(-s, A.dtype).astype(A.dtype)
    most = jnp.max(s, initial=0)

    def exponential(A: jax.Array) -> jax.Array:
        def square(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            i, X = state
            return i + 1, jnp.where(i < s, layout.multiply(X, X), X)

        start = jnp.zeros_like(most), _taylor(layout, layout.keep(scale * A))
        return lax.while_loop(lambda state: state[0] < most, square, start)[1]

    value: Callable[[jax.Array], jax.Array] = exponential
    for E in directions:
        value = _along(value, E)
    return value(A)


def _along(f: Callable[[jax.Array], jax.Array], E: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda A: jax.jvp(f, (A,), (E,))[1]


def _taylor(layout: Layout, A: jax.Array) -> jax.Array:
    """T18."""

    def multiply(X: jax.Array, Y: jax.Array) -> jax.Array:
        return layout.keep(layout.multiply(X, Y))

    def p(coefficients: tuple[float, ...]) -> jax.Array:
        return sum((c * X for c, X in zip(coefficients[1:], powers[1:], strict=False)), coefficients[0] * powers[0])

    A2 = multiply(A, A)
    A3 = multiply(A2, A)
    powers = (A, A2, A3, multiply(A3, A3))
    U = multiply(layout.keep(p(_P1)), layout.keep(p(_P2)))
    V = multiply(layout.keep(U + p(_P3)), layout.keep(U + p(_P4)))
    n = A.shape[layout.axes[0]]
    identity = lax.broadcast_in_dim(jnp.eye(n, dtype=A.dtype), A.shape, [axis % A.ndim for axis in layout.axes])
    return identity + (p(_P5) + (_K * U + V))


def _squarings(layout: Layout, A: jax.Array, order: int) -> jax.Array:
    """The smallest s with r / 2^s in the disk where T18, differentiated ``order`` times, is exact to rounding.

    The remainder of T18 is bounded by that of the scalar exponential at r = max(|A^4|^(1/4), |A^5|^(1/5)), since
    every power from A^12 on is a product of A^4 and A^5 (Al-Mohy & Higham 2009, theorem 4.2). Taking the moduli of
    the entries of A first bounds the rounding errors of the evaluation as well.
    """
    numbers = jnp.finfo(A.dtype)
    left = _DEGREE + 1 - order
    radius = (0.5 * float(numbers.eps) * math.factorial(left)) ** (1 / left)
    modulus = jnp.abs(A)
    ones = jnp.ones_like(lax.slice_in_dim(modulus, 0, min(1, A.shape[layout.axes[0]]), axis=layout.axes[0]))
    norm = layout.largest(layout.multiply(ones, modulus))
    finite = jnp.isfinite(norm)
    unit = layout.keep(power_of_two(jnp.where(finite, norm, 1)))
    modulus = layout.keep(modulus * (1 / (radius * unit)))
    sums = layout.multiply(ones, modulus)
    for _ in range(3):
        sums = layout.keep(layout.multiply(sums, modulus))
    # x / 2^(k s) < 1 of x = (r / radius)^k, whose binary exponent is e, holds for the first integer s from e / k on
    fourth, fifth = _exponent(layout.largest(sums)), _exponent(layout.largest(layout.multiply(sums, modulus)))
    excess = jnp.maximum(-(-fourth // 4), -(-fifth // 5))
    return jnp.clip(jnp.where(finite, _exponent(unit) - 1 + excess, 0), 0, numbers.maxexp - 2)


def _exponent(x: jax.Array) -> jax.Array:
    """The smallest integer e with x < 2^e; of x below the normal numbers that of the smallest of these."""
    return jnp.frexp(jnp.maximum(x, jnp.finfo(x.dtype).tiny))[1]


def exact_power(e: jax.Array, dtype: DTypeLike) -> jax.Array:
    """2^e in the real ``dtype``, put together from its bits, for integers e with 2^e a normal number."""
    numbers = jnp.finfo(dtype)
    biased = (numbers.maxexp - 1 + e).astype(f"int{numbers.bits}")
    return lax.bitcast_convert_type(biased << numbers.nmant, numbers.dtype)


def power_of_two(x: jax.Array) -> jax.Array:
    """A power of two between x / 2 and 2 x, of x >= 0 that is neither too small nor too large for its reciprocal."""
    numbers = jnp.finfo(x.dtype)
    x = jnp.clip(x, numbers.tiny, 0.25 / numbers.tiny)
    return lax.reduce_precision(x, exponent_bits=numbers.nexp, mantissa_bits=0)
