"""The adjugate of 4 x 4 matrices from their 2 x 2 minors, right at every rank; the batch on the last axis.

Source: Horn and Johnson, Matrix Analysis, section 0.8 (Laplace expansion).
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

Minors = dict[tuple[int, int], jax.Array]


def adjugate(A: jax.Array) -> jax.Array:
    """The transpose of the matrix of cofactors."""
    upper, lower = _minors(A[0], A[1]), _minors(A[2], A[3])
    # the cofactors of a row are expansions along its neighbour, with the minors of the other two rows
    cofactors = [
        [(-1) ** (i + j) * _expand(A[i ^ 1], lower if i < 2 else upper, j) for j in range(4)] for i in range(4)
    ]
    return jnp.stack([jnp.stack([cofactors[i][j] for i in range(4)]) for j in range(4)])


def _minors(x: jax.Array, y: jax.Array) -> Minors:
    return {(i, j): x[i] * y[j] - x[j] * y[i] for i, j in itertools.combinations(range(4), 2)}


def _expand(row: jax.Array, minors: Minors, without: int) -> jax.Array:
    i, j, k = (column for column in range(4) if column != without)
    return row[i] * minors[j, k] - row[j] * minors[i, k] + row[k] * minors[i, j]
