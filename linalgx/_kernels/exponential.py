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
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._kernels.exponents import exact_power, power_of_two

_P1 = (0.10036558103014462, 0.0080292464824115693, 0.00089213849804572999)
_P2 = (0.0, 0.092336461936711856, 0.016936493900208172, 1.4008679818203609e-5)
_P3 = (1.6125176868819239, 0.12477411482493252, 0.022573155818051032, 1.9579475957000978e-5)
_P4 = (-0.067640451907138188, 0.067596130177045965, 0.029555257042931552, -1.3918025751606069e-5)
_P5 = (1.0, 0.60907142504894648, 0.16942415471701653, -0.00048576227860552416)
_K = -11.148502971774368
_DEGREE = 18
_POWERS = (1, 2, 3, 6)
_MODULI = 16.0
"""The radius for the moduli of the entries where the powers are measured: rounding errors were seen to grow at 100."""


class Layout(NamedTuple):
    """How the arrays are computed with.

    Attributes:
        axes: those of the rows and of the columns; all others are batch axes.
        multiply: the product of two matrices.
        largest: the largest entry of a matrix of positive entries with one row, as a matrix.
        keep: called on what several later steps read.
        measures_powers: whether to scale by the norms of A^2, A^3 and A^6, once they are there. Where A cancels in its
            powers that spares up to four squarings, and most of the rounding errors; below some order of the matrix
            the norms cost more than the squarings.
    """

    axes: tuple[int, int]
    multiply: Callable[[jax.Array, jax.Array], jax.Array]
    largest: Callable[[jax.Array], jax.Array]
    keep: Callable[[jax.Array], jax.Array] = lambda x: x
    measures_powers: bool = False


LEADING = Layout(
    (-2, -1), jnp.matmul, lambda x: jnp.max(x, axis=(-2, -1), keepdims=True, initial=0), measures_powers=True
)
"""Any number of batch axes, in front."""


def matrix_exp(layout: Layout, A: jax.Array, *directions: jax.Array) -> jax.Array:
    """The Fréchet derivative of exp at A in the given directions; exp(A) without a direction."""
    left = _DEGREE + 1 - len(directions)
    radius = (0.5 * float(jnp.finfo(A.dtype).eps) * math.factorial(left)) ** (1 / left)
    first = layout.keep(_squarings_for_moduli(layout, A, _MODULI if layout.measures_powers else radius))

    def exponential(A: jax.Array) -> jax.Array:
        def square(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            i, X = state
            return i + 1, jnp.where(i < s, layout.multiply(X, X), X)

        powers, s = _powers(layout, layout.keep(_scaled(A, first))), first
        if layout.measures_powers:
            more = layout.keep(_squarings_for_powers(layout, powers, radius))
            powers = [layout.keep(_scaled(X, k * more)) for k, X in zip(_POWERS, powers, strict=True)]
            s = layout.keep(first + more)
        most = jnp.max(s, initial=0)
        start = jnp.zeros_like(most), _taylor(layout, powers)
        return lax.while_loop(lambda state: state[0] < most, square, start)[1]

    value: Callable[[jax.Array], jax.Array] = exponential
    for E in directions:
        value = _along(value, E)
    return value(A)


def _along(f: Callable[[jax.Array], jax.Array], E: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda A: jax.jvp(f, (A,), (E,))[1]


def _powers(layout: Layout, A: jax.Array) -> list[jax.Array]:
    """A, A^2, A^3 and A^6."""
    A2 = layout.keep(layout.multiply(A, A))
    A3 = layout.keep(layout.multiply(A2, A))
    return [A, A2, A3, layout.keep(layout.multiply(A3, A3))]


def _taylor(layout: Layout, powers: Sequence[jax.Array]) -> jax.Array:
    """T18 from A, A^2, A^3 and A^6."""

    def multiply(X: jax.Array, Y: jax.Array) -> jax.Array:
        return layout.keep(layout.multiply(X, Y))

    def p(coefficients: tuple[float, ...]) -> jax.Array:
        return sum((c * X for c, X in zip(coefficients[1:], powers[1:], strict=False)), coefficients[0] * powers[0])

    U = multiply(layout.keep(p(_P1)), layout.keep(p(_P2)))
    V = multiply(layout.keep(U + p(_P3)), layout.keep(U + p(_P4)))
    A = powers[0]
    n = A.shape[layout.axes[0]]
    identity = lax.broadcast_in_dim(jnp.eye(n, dtype=A.dtype), A.shape, [axis % A.ndim for axis in layout.axes])
    return identity + (p(_P5) + (_K * U + V))


# --- How often to square. T18, differentiated or not, is exact to rounding in a disk: its remainder at A is bounded by
# that of the scalar exponential at any r with |A^k| <= r^k for all k from 19 on (Al-Mohy & Higham 2009, theorem 4.2).
# A derivative starts at a lower k, and its directions part the powers, of which no account is taken.


def _squarings_for_moduli(layout: Layout, A: jax.Array, radius: float) -> jax.Array:
    """The smallest s with r / 2^s in a disk, for r = max(|M^4|^(1/4), |M^5|^(1/5)), M the moduli of the entries of A.

    Every power of A from A^12 on is below a product of M^4 and M^5, entry by entry, and so are the rounding errors of
    all products: the powers of A itself may cancel, and say nothing of these.
    """
    modulus = jnp.abs(A)
    # so that a sum of the largest numbers is in range
    norm = _norm(layout, modulus * 2.0**-16)
    finite = jnp.isfinite(norm)
    unit = layout.keep(power_of_two(jnp.where(finite, norm, 1)))
    modulus = layout.keep(modulus * (1 / unit))
    sums = _column_sums(layout, modulus)
    for _ in range(3):
        sums = layout.keep(layout.multiply(sums, modulus))
    # x / 2^(k s) < 1 of x = (r / radius)^k, whose binary exponent is e, holds for the first integer s from e / k on
    fourth = _exponent(layout.largest(sums) * radius**-4)
    fifth = _exponent(layout.largest(layout.multiply(sums, modulus)) * radius**-5)
    excess = jnp.maximum(_quotient(fourth, 4), _quotient(fifth, 5))
    return jnp.maximum(jnp.where(finite, _exponent(unit) - 1 + excess, 0), 0)


def _squarings_for_powers(layout: Layout, powers: Sequence[jax.Array], radius: float) -> jax.Array:
    """The smallest s with r / 2^s in the disk, for r^19 = |A^2|^2 |A^3| |A^6|^2.

    That bounds A^19, and r^k all that follow, as products of A^2, A^3 and A^6.
    """
    norms = (_norm(layout, jnp.abs(lax.stop_gradient(X))) for X in powers[1:])
    # by fractions and exponents: the product may be out of the range of the dtype
    (m2, e2), (m3, e3), (m6, e6) = (jnp.frexp(norm * radius**-k) for k, norm in zip(_POWERS[1:], norms, strict=True))
    fraction = (m2 * m6) ** 2 * m3
    e = 2 * (e2 + e6) + e3 + _exponent(fraction)
    return jnp.clip(jnp.where(jnp.isfinite(fraction), _quotient(e, 19), 0), 0, 6)


def _scaled(X: jax.Array, e: jax.Array) -> jax.Array:
    """2^-e X, in two steps: 2^-e may be no normal number."""
    half = e >> 1
    return X * exact_power(-half, X.dtype).astype(X.dtype) * exact_power(half - e, X.dtype).astype(X.dtype)


def _norm(layout: Layout, moduli: jax.Array) -> jax.Array:
    return layout.largest(_column_sums(layout, moduli))


def _column_sums(layout: Layout, X: jax.Array) -> jax.Array:
    row = lax.slice_in_dim(X, 0, min(1, X.shape[layout.axes[0]]), axis=layout.axes[0])
    return layout.multiply(jnp.ones_like(row), X)


def _exponent(x: jax.Array) -> jax.Array:
    """The smallest integer e with x < 2^e, of finite x; below the normal numbers that of the smallest of these."""
    numbers = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(jnp.maximum(x, numbers.tiny), f"int{numbers.bits}")
    return (bits >> numbers.nmant).astype(jnp.int32) - (numbers.maxexp - 2)


def _quotient(e: jax.Array, k: int) -> jax.Array:
    """The smallest integer from e / k on."""
    return lax.div(jnp.where(e > 0, e + (k - 1), e), jnp.int32(k))
