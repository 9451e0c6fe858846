"""Powers of matrices; the matrix exponential, and its Fréchet derivatives of every order.

Sources: Bader, Blanes & Casas (2019), "Computing the matrix exponential with an optimized Taylor polynomial
approximation", Mathematics 7, 1174 (degree 18 in five products); Al-Mohy & Higham (2009), "Computing the Fréchet
derivative of the matrix exponential, with an application to condition number estimation", SIAM J. Matrix Anal.
Appl. 30, 1639 (the differentiated recurrence); Al-Mohy & Higham (2009), "A new scaling and squaring algorithm for
the matrix exponential", SIAM J. Matrix Anal. Appl. 31, 970 (less scaling of non-normal matrices); Higham (2008),
"Functions of Matrices", chapters 3 and 10; Knuth, "The Art of Computer Programming", volume 2, section 4.6.3 (powers).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from linalgx._core.arguments import (
    array,
    inexact_array,
    integer,
    public,
    require_matrix,
    require_square,
    square_matrix,
)
from linalgx._core.matrix import H, identity
from linalgx._core.operation import Operation
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


@public()
def matrix_exp(a: ArrayLike) -> jax.Array:
    """Matrix exponential: I + A + A^2 / 2! + A^3 / 3! + ...

    Args:
        a: shape (..., n, n), real or complex.

    Returns:
        exp(A), shape (..., n, n), in the promoted dtype of a.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.

    On failure:
        a matrix with NaN or an infinity gives NaN, and so may one whose exponential overflows; no other member of
        the batch is touched.

    Derivatives:
        both modes, every order, for every matrix, defective or with repeated eigenvalues.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_exp(jnp.array([[0.0, 2.0], [0.0, 0.0]]))
        Array([[1., 2.],
               [0., 1.]], dtype=float32)

    Source:
        Bader, Blanes & Casas (2019); derivatives: Al-Mohy & Higham (2009).
    """
    return matrix_exp_p(square_matrix("matrix_exp", a=a))


# The operation is D_k(A; E_1, ..., E_k), the k-th Fréchet derivative of exp at A in the directions E_i, k >= 0:
# exp(A) without a direction, L(A, E) with one.
#
# exp(A) = T18(A / 2^s)^(2^s), where T18 is the Taylor polynomial of degree 18 and 2^s, for each matrix its own, the
# power of two that brings A into the disk where T18 is exact to rounding. With s held fixed this is a polynomial in
# A; its derivatives are those of the recurrence.


def _matrix_exp(A: jax.Array, *directions: jax.Array) -> jax.Array:
    s = _squarings(A, order=len(directions))[..., None, None]
    scale = jnp.ldexp(jnp.ones(s.shape, jnp.finfo(A.dtype).dtype), -s).astype(A.dtype)
    most = jnp.max(s, initial=0)

    def exponential(A: jax.Array) -> jax.Array:
        def square(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            i, X = state
            return i + 1, jnp.where(i < s, X @ X, X)

        return lax.while_loop(lambda state: state[0] < most, square, (jnp.zeros_like(most), _taylor(scale * A)))[1]

    value: Callable[[jax.Array], jax.Array] = exponential
    for E in directions:
        value = _along(value, E)
    return value(A)


def _along(f: Callable[[jax.Array], jax.Array], E: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda A: jax.jvp(f, (A,), (E,))[1]


matrix_exp_p = Operation("matrix_exp", _matrix_exp, linear_in=(1, 2, 3))


# Rules. D_k is symmetric and linear in its directions, and its derivative in A along E is D_(k+1) with E as one more
# direction. As a power series it is a sum of words A^i E_1 A^j E_2 A^l ..., and tr(G^H A^i E A^j ...) =
# tr(E A^j ... G^H A^i): the adjoint with respect to any letter is a sum of the same words in the adjoint letters,
# with G in the place of that letter:
#   forward   D_(k+1)(A; E_1, ..., E_k, dA) + sum_i D_k(A; ..., dE_i, ...)
#   reverse   A_bar = D_(k+1)(A^H; E_1^H, ..., E_k^H, G),   E_i_bar = D_k(A^H; ..., G, ...)


def _matrix_exp_fwd(A, *directions):
    return matrix_exp_p(A, *directions), (A, *directions)


def _matrix_exp_bwd(residuals, G):
    A, *directions = map(H, residuals)
    A_bar = matrix_exp_p(A, *directions, G)
    return A_bar, *(matrix_exp_p(A, *_replaced(directions, i, G)) for i in range(len(directions)))


def _matrix_exp_jvp(residuals, dA, *moved):
    A, *directions = residuals
    terms = [] if dA is None else [matrix_exp_p(A, *directions, dA)]
    terms += [matrix_exp_p(A, *_replaced(directions, i, dE)) for i, dE in enumerate(moved) if dE is not None]
    return sum(terms[1:], terms[0])


def _replaced(directions: list[jax.Array], i: int, E: jax.Array) -> list[jax.Array]:
    return [*directions[:i], E, *directions[i + 1 :]]


matrix_exp_p.defvjp(_matrix_exp_fwd, _matrix_exp_bwd)
matrix_exp_p.defjvp(_matrix_exp_jvp, source="Al-Mohy & Higham (2009), SIAM J. Matrix Anal. Appl. 30, equation 1.5")


# T18 in five products: with polynomials p_i in A, A^2, A^3 and A^6 that have no constant term,
#   U = p_1 p_2,   T18 = I + p_5 + k U + (U + p_3)(U + p_4).
# This is the scheme of Bader, Blanes & Casas (2019), section 3.3, after its constants are multiplied out, so that
# exp(0) = I, and exp(A) = I + A if A^2 = 0, hold without a rounding error.

_P1 = (0.10036558103014462, 0.0080292464824115693, 0.00089213849804572999)
_P2 = (0.0, 0.092336461936711856, 0.016936493900208172, 1.4008679818203609e-5)
_P3 = (1.6125176868819239, 0.12477411482493252, 0.022573155818051032, 1.9579475957000978e-5)
_P4 = (-0.067640451907138188, 0.067596130177045965, 0.029555257042931552, -1.3918025751606069e-5)
_P5 = (1.0, 0.60907142504894648, 0.16942415471701653, -0.00048576227860552416)
_K = -11.148502971774368
_DEGREE = 18


def _taylor(A: jax.Array) -> jax.Array:
    A2 = A @ A
    A3 = A2 @ A
    powers = (A, A2, A3, A3 @ A3)
    U = _combination(_P1, powers) @ _combination(_P2, powers)
    V = (U + _combination(_P3, powers)) @ (U + _combination(_P4, powers))
    return identity(A) + (_combination(_P5, powers) + (_K * U + V))


def _combination(coefficients: tuple[float, ...], powers: tuple[jax.Array, ...]) -> jax.Array:
    return sum((c * X for c, X in zip(coefficients[1:], powers[1:], strict=False)), coefficients[0] * powers[0])


def _squarings(A: jax.Array, order: int) -> jax.Array:
    """The smallest s with r / 2^s in the disk where T18, differentiated ``order`` times, is exact to rounding.

    The remainder of T18 is bounded by that of the scalar exponential at r = max(|A^4|^(1/4), |A^5|^(1/5)), since
    every power from A^12 on is a product of A^4 and A^5 (Al-Mohy & Higham 2009, theorem 4.2). Taking the moduli of
    the entries of A first bounds the rounding errors of the evaluation as well.
    """
    numbers = jnp.finfo(A.dtype)
    left = _DEGREE + 1 - order
    radius = (0.5 * float(numbers.eps) * math.factorial(left)) ** (1 / left)
    modulus = jnp.abs(A)
    norm = jnp.max(jnp.sum(modulus, axis=-2), axis=-1, initial=0)
    _, exponent = jnp.frexp(jnp.where(jnp.isfinite(norm), norm, 0))
    unit = modulus * jnp.ldexp(jnp.ones_like(norm), -exponent)[..., None, None]
    sums = jnp.ones_like(unit[..., :1, :])
    for _ in range(4):
        sums = sums @ unit
    fourth, fifth = (jnp.max(x, axis=(-2, -1), initial=float(numbers.tiny)) for x in (sums, sums @ unit))
    growth = jnp.maximum(fourth**0.25, fifth**0.2)
    _, excess = jnp.frexp(growth / radius)
    return jnp.clip(jnp.where(jnp.isfinite(norm), exponent + excess, 0), 0, numbers.maxexp - 2)


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
