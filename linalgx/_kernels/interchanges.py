"""Row interchanges, as elimination records them: row i was interchanged with row pivots[i], in order.

The order of a few rows is found by comparisons, without a gather, which would be slow in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.lax import linalg as lax_linalg

from linalgx._core.batch_minor import SMALL, extent
from linalgx._core.loops import materialise


def permutation(pivots: jax.Array, size: int) -> jax.Array:
    """The order of the rows after the interchanges: P^T A = A[permutation]."""
    if extent(size) > SMALL or pivots.shape[-1] == 0:
        return lax_linalg.lu_pivots_to_permutation(pivots, size)
    order = jnp.stack(order_of_rows([pivots[..., i] for i in range(pivots.shape[-1])], size), axis=-1)
    return materialise(order) if size > 3 else order


def order_of_rows(pivots: Sequence[jax.Array], size: int) -> list[jax.Array]:
    """The same, an array for each row."""
    order = [jnp.full_like(pivots[0], row) for row in range(size)]
    for i, other in enumerate(pivots):
        at_i = order[i]
        for j in range(i + 1, size):
            here = other == j
            order[i], order[j] = jnp.where(here, order[j], order[i]), jnp.where(here, at_i, order[j])
    return order


def interchange(pivots: jax.Array, X: jax.Array, *, back: bool = False, axis: int = -2) -> jax.Array:
    """P^T X, or (``back``) P X; with axis -1 X P, or X P^T."""
    size = X.shape[axis]
    order = permutation(pivots, size)
    if extent(size) > SMALL:
        order = jnp.argsort(order, axis=-1) if back else order
        index = order[..., :, None] if axis == -2 else order[..., None, :]
        return jnp.take_along_axis(X, index, axis=axis, mode="promise_in_bounds")
    if axis == -1:
        return jnp.swapaxes(interchange(pivots, jnp.swapaxes(X, -1, -2), back=back), -1, -2)
    own = jnp.arange(size, dtype=order.dtype)[:, None]
    moved = jnp.zeros_like(X)
    for i in range(size):
        here = order[..., i, None, None] == own if back else order[..., None] == i
        moved = jnp.where(here, X[..., i, None, :], moved)
    return moved
