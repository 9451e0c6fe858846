"""A large batch in parts that stay in the cache of a core while they are worked on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.batch_minor import materialise
from linalgx._core.operation import varying_alike


def in_parts(function: Callable[..., Any], size: int, *args: jax.Array) -> Any:
    """``function(*args)``, computed for ``size`` members of the batch at a time.

    What the function materialises then stays in the cache, and its memory does not grow with the batch. The last
    part overlaps the one before if the size does not divide the batch: slices that reach over the end are moved back.
    """
    batch = args[0].shape[-1]
    if not isinstance(batch, int) or batch <= size:
        return function(*args)

    def part(x: jax.Array, i: jax.Array) -> jax.Array:
        return materialise(lax.dynamic_slice_in_dim(x, i * size, size, -1))

    def step(i: jax.Array, outs: Any) -> Any:
        results = function(*(part(x, i) for x in args))
        return jax.tree.map(
            lambda out, result: lax.dynamic_update_slice_in_dim(out, materialise(result), i * size, -1), outs, results
        )

    shapes = jax.eval_shape(function, *(x[..., :size] for x in args))
    outs = jax.tree.map(lambda s: varying_alike([args[0], jnp.zeros((*s.shape[:-1], batch), s.dtype)])[1], shapes)
    return lax.fori_loop(jnp.int32(0), jnp.int32(-(-batch // size)), step, outs)
