"""Determinant, its logarithm and the inverse from the factors of elimination, A = P L U."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from linalgx._core.matrix import diagonal, identity
from linalgx._kernels import lapack
from linalgx._kernels.exponents import by_power_of_two, product


def det(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    """The determinant."""
    d, sign = diagonal(LU), _sign_of_permutation(pivots, LU.dtype)
    delta = sign * jnp.prod(d, axis=-1)
    out_of_range = (delta == 0) | ~jnp.isfinite(delta)

    def by_exponents(d: jax.Array, sign: jax.Array, delta: jax.Array) -> jax.Array:
        return jnp.where(out_of_range, by_power_of_two(*product(d, sign)), delta)

    # the factors may leave the range of the dtype one after the other although the whole product does not
    return lax.cond(jnp.any(out_of_range), by_exponents, lambda d, sign, delta: delta, d, sign, delta)


def digits_and_exponent_of_det(LU: jax.Array, pivots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """D and e with det A = d 2^e, where |d| is around 1, or 0."""
    return product(diagonal(LU), _sign_of_permutation(pivots, LU.dtype))


def slogdet(LU: jax.Array, pivots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sign and logarithm of the absolute value of the determinant."""
    return _sign_and_logarithm(diagonal(LU), _sign_of_permutation(pivots, LU.dtype))


def adjoint_of_inverse(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    """A^-H: what gradients hold is computed as it lies in memory, not its transpose."""
    return lapack.lu_solve(LU, pivots, identity(LU), left=False, adjoint=True)


def _sign_of_permutation(pivots: jax.Array, dtype: DTypeLike) -> jax.Array:
    """1 or -1: the determinant of P."""
    odd = jnp.sum(pivots != jnp.arange(pivots.shape[-1], dtype=pivots.dtype), axis=-1) % 2 == 1
    return jnp.where(odd, -1, 1).astype(dtype)


def _sign_and_logarithm(d: jax.Array, sign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the product of the elements of d, times the sign."""
    return sign * jnp.prod(jnp.sign(d), axis=-1), jnp.sum(jnp.log(jnp.abs(d)), axis=-1)
