"""The adjugate of 4 x 4 matrices from their 2 x 2 minors, right at every rank; the batch on the last axis.

Where products of entries may leave the range, that of B = D A E, where D and E are diagonal matrices of powers of two:
  adj(A) = det(D E)^-1 E adj(B) D.

Source: Horn and Johnson, Matrix Analysis, section 0.8 (Laplace expansion).
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from linalgx._core.batch_minor import fold
from linalgx._core.loops import replaced_members
from linalgx._core.matrix import largest_part
from linalgx._kernels.exponents import by_power_of_two, exponents_above

Minors = dict[tuple[int, int], jax.Array]


def adjugate(A: jax.Array) -> jax.Array:
    """The transpose of the matrix of cofactors."""
    (adj,) = replaced_members(~_in_range(A), lambda A: [_scaled_adjugate(A)], [A], [_adjugate(A)], batch_last=True)
    return adj


def _in_range(A: jax.Array) -> jax.Array:
    """Whether no product of three entries overflows, and none that matters underflows; of NaN it does not matter."""
    rows, columns = (fold(jnp.maximum, A, (axis,), of=largest_part) for axis in (1, 0))
    limits = jnp.finfo(A.dtype)
    low, high = float(limits.tiny / limits.eps) ** (1 / 3), float(limits.max / 8) ** (1 / 3)
    # the cofactors of a line that is zero are those without it
    small = [fold(jnp.logical_or, (x < low) & (x > 0), (0,)) for x in (rows, columns)]
    return ~(small[0] | small[1] | fold(jnp.logical_or, rows > high, (0,)))


def _scaled_adjugate(A: jax.Array) -> jax.Array:
    """The same by way of B, in whose rows and columns the largest entry is about 1."""
    d = _exponents_of_lines(A, axis=1)
    B = by_power_of_two(A, d)
    e = _exponents_of_lines(B, axis=0)
    of_determinant = jnp.sum(d + jnp.swapaxes(e, 0, 1), axis=(0, 1), dtype=jnp.int32)
    return by_power_of_two(_adjugate(by_power_of_two(B, e)), jnp.swapaxes(d + e, 0, 1) - of_determinant)


def _exponents_of_lines(A: jax.Array, axis: int) -> jax.Array:
    """The exponents that scale the largest entry along the axis to about 1; 0 where all are zero."""
    nothing = -(2**16)
    largest = jnp.max(jnp.where(A == 0, nothing, exponents_above(A)), axis=axis, keepdims=True)
    return jnp.where(largest == nothing, 0, -largest)


def _adjugate(A: jax.Array) -> jax.Array:
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
