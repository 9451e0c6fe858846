"""Determinants of at most three rows by the cofactors C_ij of the first, within the whole range of the dtype.

And what follows from them: sign and logarithm, and the inverse of two rows.
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
from linalgx._core.loops import materialise
from linalgx._core.matrix import diagonal
from linalgx._kernels.batch_minor import elimination
from linalgx._kernels.exponential import exact_power

Pair = tuple[jax.Array, jax.Array]


def det(A: jax.Array) -> jax.Array:
    """The determinant, of any number of leading axes; out of the range of the dtype only if it is so itself."""
    return _of_three_rows(A, lambda function: function) if A.shape[-1] == 3 else _of_two_rows(A)


def small_det(A: jax.Array) -> jax.Array:
    """The same, with the batch last."""
    return _of_three_rows(A, batch_minor) if A.shape[0] == 3 else batch_minor(_of_two_rows)(A)


def small_slogdet(A: jax.Array) -> Pair:
    """Sign and logarithm of the determinant, with the batch last: by elimination where the expansion is not precise."""
    return _by_expansion(A, lambda _, delta: (jnp.sign(delta), jnp.log(jnp.abs(delta))), elimination.slogdet)


def small_inv(A: jax.Array) -> Pair:
    """The inverse of at most two rows, and info, with the batch last.

    The error of the determinant is a factor of the inverse, so that A X is as close to I as by elimination.
    """

    def of_expansion(A: jax.Array, delta: jax.Array) -> Pair:
        adjugate = jnp.swapaxes(batch_minor(cofactor_matrix)(A), 0, 1)
        return adjugate / delta, jnp.zeros(delta.shape, jnp.int32)

    return _by_expansion(A, of_expansion, elimination.inv)


def _by_expansion(
    A: jax.Array, of_expansion: Callable[[jax.Array, jax.Array], Pair], of_elimination: Callable[[jax.Array], Pair]
) -> Pair:
    """What is made of A and its determinant, with the batch last, and where that is not precise what is made of A."""
    delta = _or_nan(A, batch_minor)

    def both(A: jax.Array, delta: jax.Array) -> Pair:
        pairs = zip(of_elimination(A), of_expansion(A, delta), strict=True)
        first, second = (jnp.where(jnp.isnan(delta), x, y) for x, y in pairs)
        return first, second

    return lax.cond(_some_nan(delta), both, of_expansion, A, delta)


def cofactor_matrix(A: jax.Array) -> jax.Array:
    """C with det A = sum_j A_ij C_ij for every i: the derivative of the determinant."""
    n = A.shape[-1]
    if n <= 1:
        return jnp.ones_like(A)
    return jnp.stack([jnp.stack([_cofactor(A, i, j) for j in range(n)], axis=-1) for i in range(n)], axis=-2)


def _cofactor(A: jax.Array, i: int, j: int) -> jax.Array:
    n = A.shape[-1]

    def a(k: int, l: int) -> jax.Array:
        return A[..., (i + k) % n, (j + l) % n]

    # counted from (i, j), cyclically: the signs of three rows then are all positive
    if n == 3:
        return a(1, 1) * a(2, 2) - a(1, 2) * a(2, 1)
    return a(1, 1) if i == j else -a(1, 1)


def _expansion(A: jax.Array) -> jax.Array:
    if A.shape[-1] <= 1:
        return jnp.prod(diagonal(A), axis=-1)
    return functools.reduce(jnp.add, (A[..., 0, j] * _cofactor(A, 0, j) for j in range(A.shape[-1])))


def _of_three_rows(A: jax.Array, each: Callable[..., Any]) -> jax.Array:
    """The expansion, or what has no range where a product leaves that of the dtype; ``each`` spreads over the batch."""
    delta = _or_nan(A, each)

    def rescaled(A: jax.Array, delta: jax.Array) -> jax.Array:
        return jnp.where(jnp.isnan(delta), each(_by_exponents)(A), delta)

    return lax.cond(_some_nan(delta), rescaled, lambda _, delta: delta, A, delta)


def _or_nan(A: jax.Array, each: Callable[..., Any]) -> jax.Array:
    """The expansion, and NaN where it is not precise: to know that A need not be read again."""

    def marked(A: jax.Array) -> jax.Array:
        delta = _expansion(A)
        return jnp.where(_is_precise(A, delta), delta, jnp.nan)

    return materialise(each(marked)(A))


def _some_nan(delta: jax.Array) -> jax.Array:
    """Whether there is a NaN in an array without infinities: one sum, which takes less time than a comparison each."""
    return jnp.isnan(jnp.sum(0 * (jnp.real(delta) + jnp.imag(delta))))


def _is_precise(A: jax.Array, delta: jax.Array) -> jax.Array:
    """Whether no product overflowed, and all that underflowed are too small to be seen in the determinant."""
    limits = jnp.finfo(A.dtype)
    modulus = jnp.abs(jnp.real(delta)) + jnp.abs(jnp.imag(delta))
    first = (A[..., 0, j] for j in range(A.shape[-1]))
    factors = functools.reduce(jnp.add, (jnp.abs(jnp.real(x)) + jnp.abs(jnp.imag(x)) for x in first))
    return jnp.isfinite(modulus) & (modulus * float(limits.eps) > 8 * float(limits.tiny) * jnp.maximum(factors, 1))


def _by_exponents(A: jax.Array) -> jax.Array:
    """The same as a sum over the permutations, with the exponents of its terms kept apart from their digits."""
    n, limits = A.shape[-1], jnp.finfo(A.dtype)
    exponent = jnp.frexp(jnp.maximum(jnp.abs(jnp.real(A)), jnp.abs(jnp.imag(A))))[1]
    half = exponent // 2
    digits = A * exact_power(-half, A.dtype).astype(A.dtype) * exact_power(half - exponent, A.dtype).astype(A.dtype)
    exponent = jnp.where(digits == 0, -(2**16), exponent)
    terms, exponents = [], []
    for columns in itertools.permutations(range(n)):
        odd = sum(i > j for i, j in itertools.combinations(columns, 2)) % 2
        terms.append((-1) ** odd * math.prod((digits[..., i, j] for i, j in enumerate(columns)), start=1))
        exponents.append(sum(exponent[..., i, j] for i, j in enumerate(columns)))
    largest = functools.reduce(jnp.maximum, exponents)
    step = int(limits.maxexp) - 8
    aligned = (
        x * exact_power(jnp.maximum(e - largest, -step), A.dtype).astype(A.dtype)
        for x, e in zip(terms, exponents, strict=True)
    )
    delta = functools.reduce(jnp.add, aligned)
    for _ in range(n + 1):
        part = jnp.clip(largest, -step, step)
        delta, largest = _times(delta, exact_power(part, A.dtype)), largest - part
    return delta


def _times(x: jax.Array, s: jax.Array | float) -> jax.Array:
    """X times a real number, by parts: an infinite one would make the product of complex numbers NaN."""
    return lax.complex(jnp.real(x) * s, jnp.imag(x) * s) if jnp.iscomplexobj(x) else x * s


def _of_two_rows(A: jax.Array) -> jax.Array:
    """The expansion where it is finite: of two rows no product is too small to be seen, but it may overflow."""
    delta, limits = _expansion(A), jnp.finfo(A.dtype)
    if A.shape[-1] < 2:
        return delta
    unit, largest = 2.0 ** (limits.maxexp // 2 + 2), float(limits.max)
    scaled = _times(_expansion(A * (1 / unit)), unit)
    # a bound between the two steps: XLA would multiply the units first
    bounded = lax.complex(*_parts(scaled, largest)) if jnp.iscomplexobj(A) else jnp.clip(scaled, -largest, largest)
    return jnp.where(jnp.isfinite(delta), delta, _times(bounded, unit))


def _parts(x: jax.Array, largest: float) -> tuple[jax.Array, jax.Array]:
    return jnp.clip(jnp.real(x), -largest, largest), jnp.clip(jnp.imag(x), -largest, largest)
