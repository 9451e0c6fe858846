"""Determinant, its logarithm and the inverse from the factors of elimination, A = P L U."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from linalgx._core.matrix import diagonal, identity
from linalgx._kernels import lapack


def det(LU: jax.Array, pivots: jax.Array) -> jax.Array:
    """The determinant."""
    d, sign = diagonal(LU), _sign_of_permutation(pivots, LU.dtype)
    product = sign * jnp.prod(d, axis=-1)
    out_of_range = (product == 0) | ~jnp.isfinite(product)

    def through_logarithms(d: jax.Array, sign: jax.Array, product: jax.Array) -> jax.Array:
        sign, logabsdet = _sign_and_logarithm(d, sign)
        return jnp.where(out_of_range, sign * jnp.exp(logabsdet).astype(d.dtype), product)

    # the factors may leave the range of the dtype one after the other although the whole product does not
    return lax.cond(jnp.any(out_of_range), through_logarithms, lambda d, sign, product: product, d, sign, product)


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
