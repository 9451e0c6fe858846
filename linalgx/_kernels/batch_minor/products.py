"""Products of small matrices, as sums of outer products: XLA's batched product of small matrices is slow on the CPU."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
from jax import lax

from linalgx._core.loops import many_threads, materialise


def matmul(A: jax.Array, B: jax.Array, **_: Any) -> jax.Array:
    """A B, the batch on the last axis."""
    return _kept(multiply(A, B), A.shape[1])


def matmul_in_front(A: jax.Array, B: jax.Array, **_: Any) -> jax.Array:
    """A B, the batch in front."""
    k = A.shape[-1]
    if many_threads.value:
        return _sum(A[..., None] * B[..., None, :, :], -2)
    return _kept(functools.reduce(operator.add, (A[..., :, i, None] * B[..., i, None, :] for i in range(k))), k)


def multiply(A: jax.Array, B: jax.Array) -> jax.Array:
    """A B, the batch on the last axis, computed again by all who read it."""
    if many_threads.value:
        return _sum(A[:, :, None] * B[None], 1)
    return functools.reduce(operator.add, (A[:, k, None, :] * B[None, k, :, :] for k in range(A.shape[1])))


def _sum(products: jax.Array, axis: int) -> jax.Array:
    """The sum of the slices along an axis, of an array of products.

    For a GPU: of a sum of products of slices XLA's compiler makes a kernel for each slice, if there are more than six.
    """
    terms = range(products.shape[axis])
    return functools.reduce(operator.add, (lax.index_in_dim(products, k, axis, keepdims=False) for k in terms))


def _kept(product: jax.Array, terms: int) -> jax.Array:
    """The product in memory, once it is large enough that those who read it should not compute it again."""
    return materialise(product) if terms > 2 else product
