"""The matrix exponential of small matrices, the batch on the last axis."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from linalgx._core.loops import in_parts, materialise
from linalgx._kernels import exponential
from linalgx._kernels.batch_minor.products import multiply


def matrix_exp(A: jax.Array, *directions: jax.Array) -> jax.Array:
    """The Fréchet derivative of exp at A in the given directions; exp(A) without a direction."""
    return in_parts(functools.partial(exponential.matrix_exp, _LAYOUT), A, *directions)


def _largest(x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.maximum, (x[:, j : j + 1] for j in range(x.shape[1])))


_LAYOUT = exponential.Layout((0, 1), multiply, _largest, materialise)
