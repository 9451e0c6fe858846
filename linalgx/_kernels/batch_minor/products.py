"""Products of small matrices, the batch on the last axis."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax

from linalgx._core.loops import materialise


def matmul(A: jax.Array, B: jax.Array, **_: Any) -> jax.Array:
    """A B; in memory, once it is large enough that those who read it should not compute it again."""
    product = multiply(A, B)
    return materialise(product) if A.shape[1] > 3 else product


def multiply(A: jax.Array, B: jax.Array) -> jax.Array:
    """A B as a sum of outer products: XLA's batched product of small matrices is slow on the CPU."""
    return functools.reduce(operator.add, (A[:, k, None, :] * B[None, k, :, :] for k in range(A.shape[1])))
