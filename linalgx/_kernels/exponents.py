"""Powers of two, by which nothing is rounded, and products whose exponents are kept apart from their digits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from linalgx._core.matrix import largest_part


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


def exponents_above(x: jax.Array) -> jax.Array:
    """E with 2^e above the larger of the two parts of each entry, and at most twice it."""
    return jnp.frexp(largest_part(x))[1]


def by_power_of_two(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """X 2^e, in three steps: what they do not reach is zero or infinite for every x."""
    step = int(jnp.finfo(x.dtype).maxexp) - 8
    for _ in range(3):
        part = jnp.clip(exponent, -step, step)
        x, exponent = times_real(x, exact_power(part, x.dtype)), exponent - part
    return x


def times_real(x: jax.Array, s: jax.Array | float) -> jax.Array:
    """X times a real number, by parts: an infinite one would make the product of complex numbers NaN."""
    return lax.complex(jnp.real(x) * s, jnp.imag(x) * s) if jnp.iscomplexobj(x) else x * s


def around_one(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Digits and exponents with x = digits 2^exponent, of real x, |digits| around 1; digits are 0 where x is."""
    digits, exponents = jnp.frexp(jnp.maximum(jnp.abs(x), jnp.finfo(x.dtype).tiny))
    exponents = jnp.where(digits < math.sqrt(0.5), exponents - 1, exponents)
    # in steps: the reciprocal of the largest is no normal number
    return by_power_of_two(x, -exponents), exponents


def product(x: jax.Array, sign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """D and e with d 2^e the product of the elements of x, times the sign; |d| is around 1, or 0.

    Exponents are added up apart: only logarithms of numbers around 1 are rounded.
    """
    digits, exponents = around_one(jnp.abs(x))
    logarithm = jnp.sum(jnp.log(digits), axis=-1)
    rest = jnp.where(jnp.isfinite(logarithm), jnp.round(logarithm / math.log(2)), 0)
    modulus = jnp.exp(logarithm - rest * math.log(2))
    exponent = jnp.sum(exponents, axis=-1, dtype=jnp.int32) + rest.astype(jnp.int32)
    return times_real(sign * jnp.prod(jnp.sign(x), axis=-1), modulus), exponent
