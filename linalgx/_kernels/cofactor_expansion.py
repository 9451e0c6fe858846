"""Determinants of at most three rows by the cofactors C_ij of the first, within the whole range of the dtype.

And what follows from them: sign and logarithm, and the inverse of two rows. In single precision determinants and
inverses are computed in double, else products out of range are looked for. Every function takes matrices with any
number of leading axes, or with the batch last if ``each`` is :func:`linalgx._core.batch_minor.batch_minor`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.batch_minor import batch_minor
from linalgx._core.errors import nan_where
from linalgx._core.loops import materialise, replaced_members
from linalgx._core.matrix import T, diagonal, sum_of_parts
from linalgx._kernels.exponents import by_power_of_two, exact_power, exponents_above, times_real
from linalgx._kernels.overflow import as_double, in_double, is_single, some_nan

Spread = Callable[[Callable[..., Any]], Callable[..., Any]]


def in_front(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: leading axes of its arguments are a batch."""
    return function


def det(A: jax.Array, each: Spread = in_front) -> jax.Array:
    """The determinant; out of the range of the dtype only if it is so itself."""
    if is_single(A):
        return in_double(each(lambda A: _expansion(as_double(A))))(A)
    if A.shape[0 if each is batch_minor else -1] < 3:
        return each(_of_two_rows)(A)
    return _of_expansion(lambda A, delta, exponent: by_power_of_two(delta, exponent), A, each)


def slogdet(A: jax.Array, each: Spread = in_front) -> tuple[jax.Array, jax.Array]:
    """Sign and logarithm of the determinant."""

    def of_determinant(A: jax.Array, delta: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sign(delta), jnp.log(jnp.abs(delta)) + exponent.astype(jnp.finfo(A.dtype).dtype) * math.log(2)

    return _of_expansion(of_determinant, A, each)


def inv(A: jax.Array, each: Spread = in_front) -> tuple[jax.Array, jax.Array]:
    """The inverse of one or two rows, NaN if there is none; and info, the number of the pivot that is zero, or 0.

    The error of the determinant is a factor of the inverse, so that A X is as close to I as by elimination.
    """
    if is_single(A):
        X_T, singular = in_double(each(lambda A: _inv_in_range(as_double(A))))(A)
    else:
        X_T, singular = _of_expansion(_inv_of_determinant, A, each)

    def info(A: jax.Array, singular: jax.Array) -> jax.Array:
        zero_pivot = jnp.where(jnp.all(A[..., 0] == 0, axis=-1), 1, A.shape[-1])
        return jnp.where(singular, zero_pivot, 0).astype(jnp.int32)

    return each(T)(X_T), each(info)(A, singular)


def _inv_in_range(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A^-T, NaN where there is none, and where that is; of numbers whose products are not too large or small."""
    reciprocal = 1 / _expansion(A)
    singular = jnp.isinf(reciprocal)
    return nan_where(singular, cofactor_matrix(A) * reciprocal[..., None, None]), singular


def _inv_of_determinant(A: jax.Array, delta: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same of any numbers with det A = delta 2^exponent."""
    # the power of two in two parts: the inverse may have a range where the determinant has none
    half, rest = exponent // 2, exponent - exponent // 2
    scaled = by_power_of_two(cofactor_matrix(A), -half[..., None, None]) / delta[..., None, None]
    X_T = by_power_of_two(scaled, -rest[..., None, None])
    return nan_where(delta == 0, X_T), delta == 0


def _of_expansion(function: Callable[..., Any], A: jax.Array, each: Spread) -> Any:
    """``function(A, delta, e)`` of det A = delta 2^e, where e is 0 unless det A, or a product in it, has no range.

    That is looked for in the determinants, in which it is marked, so that A need not be read again.
    """

    def marked(A: jax.Array) -> jax.Array:
        delta = _expansion(A)
        return jnp.where(_is_precise(A, delta), delta, jnp.nan)

    def of_range(A: jax.Array, delta: jax.Array) -> Any:
        return function(A, delta, jnp.int32(0))

    def out_of_range(A: jax.Array) -> Any:
        return function(A, *_digits_and_exponent(A))

    def mixed(A: jax.Array, delta: jax.Array) -> Any:
        values, shape = jax.tree.flatten(each(of_range)(A, delta))
        leaves = replaced_members(
            jnp.isnan(delta),
            lambda A: jax.tree.leaves(each(out_of_range)(A)),
            [A],
            values,
            batch_last=each is batch_minor,
        )
        return jax.tree.unflatten(shape, leaves)

    delta = materialise(each(marked)(A))
    return lax.cond(some_nan(delta), mixed, each(of_range), A, delta)


def cofactor_matrix(A: jax.Array) -> jax.Array:
    """C with det A = sum_j A_ij C_ij for every i: the derivative of the determinant."""
    n = A.shape[-1]
    if n <= 1:
        return jnp.ones_like(A)
    if n == 2 and A.ndim > 2:
        return functools.reduce(jnp.add, (_placed(_cofactor(A, i, j), i, j) for i in range(2) for j in range(2)))
    return jnp.stack([jnp.stack([_cofactor(A, i, j) for j in range(n)], axis=-1) for i in range(n)], axis=-2)


def _placed(x: jax.Array, i: int, j: int) -> jax.Array:
    """The 2 x 2 matrix of zeros but for x at (i, j): with a batch in front XLA vectorises the sum of four, no stack."""
    return jnp.pad(x[..., None, None], ((0, 0),) * x.ndim + ((i, 1 - i), (j, 1 - j)))


def _cofactor(A: jax.Array, i: int, j: int) -> jax.Array:
    n = A.shape[-1]

    def a(k: int, l: int) -> jax.Array:
        return A[..., (i + k) % n, (j + l) % n]

    # counted from (i, j), cyclically: the signs of three rows then are all positive
    if n == 3:
        return a(1, 1) * a(2, 2) - a(1, 2) * a(2, 1)
    # of zero it is zero, without a sign
    return a(1, 1) if i == j else 0 - a(1, 1)


def _expansion(A: jax.Array) -> jax.Array:
    n = A.shape[-1]
    if n <= 1:
        return jnp.prod(diagonal(A), axis=-1)
    terms = [A[..., 0, j] * _cofactor(A, 0, j) for j in range(n)]
    delta = functools.reduce(jnp.add, terms)
    # a fused multiplication and addition leaves the rounding error of a product where the two of equal rows cancel;
    # of two infinite ones NaN
    return jnp.where(terms[0] == -terms[1], 0 * terms[0], delta) if n == 2 else delta


def _is_precise(A: jax.Array, delta: jax.Array) -> jax.Array:
    """Whether no product overflowed, and all that underflowed are too small to be seen in the determinant."""
    limits = jnp.finfo(A.dtype)
    modulus = sum_of_parts(delta)
    first = (A[..., 0, j] for j in range(A.shape[-1]))
    factors = functools.reduce(jnp.add, map(sum_of_parts, first))
    return jnp.isfinite(modulus) & (modulus * float(limits.eps) > 8 * float(limits.tiny) * jnp.maximum(factors, 1))


def _digits_and_exponent(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Delta and e with det A = delta 2^e: a sum over the permutations, with exponents kept apart from digits."""
    n, limits = A.shape[-1], jnp.finfo(A.dtype)
    exponent = exponents_above(A)
    half = exponent // 2
    digits = A * exact_power(-half, A.dtype).astype(A.dtype) * exact_power(half - exponent, A.dtype).astype(A.dtype)
    exponent = jnp.where(digits == 0, -(2**16), exponent)
    terms, sums = [], []
    for columns in itertools.permutations(range(n)):
        odd = sum(i > j for i, j in itertools.combinations(columns, 2)) % 2
        terms.append((-1) ** odd * math.prod((digits[..., i, j] for i, j in enumerate(columns)), start=1))
        sums.append(functools.reduce(jnp.add, (exponent[..., i, j] for i, j in enumerate(columns))))
    largest = functools.reduce(jnp.maximum, sums)
    step = int(limits.maxexp) - 8
    aligned = (
        x * exact_power(jnp.maximum(e - largest, -step), A.dtype).astype(A.dtype)
        for x, e in zip(terms, sums, strict=True)
    )
    return functools.reduce(jnp.add, aligned), largest


def _of_two_rows(A: jax.Array) -> jax.Array:
    """The expansion where it is finite: of two rows no product is too small to be seen, but it may overflow."""
    delta, limits = _expansion(A), jnp.finfo(A.dtype)
    if A.shape[-1] < 2:
        return delta
    unit, largest = 2.0 ** (limits.maxexp // 2 + 2), float(limits.max)
    scaled = times_real(_expansion(A * (1 / unit)), unit)
    # a bound between the two steps: XLA would multiply the units first
    bounded = lax.complex(*_parts(scaled, largest)) if jnp.iscomplexobj(A) else jnp.clip(scaled, -largest, largest)
    return jnp.where(jnp.isfinite(delta), delta, times_real(bounded, unit))


def _parts(x: jax.Array, largest: float) -> tuple[jax.Array, jax.Array]:
    return jnp.clip(jnp.real(x), -largest, largest), jnp.clip(jnp.imag(x), -largest, largest)
