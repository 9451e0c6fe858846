"""Bunch-Kaufman factorisation of symmetric and Hermitian matrices, in LAPACK's packed form, for a whole batch.

LAPACK's ?sytrf and ?hetrf (uplo = "L"), which JAX does not offer, as one loop over the columns: in each of them every
matrix of the batch takes its own step, with a 1 x 1 or a 2 x 2 pivot, or rests, in the second column of a 2 x 2 pivot.

Source: Bunch & Kaufman (1977), "Some stable methods for calculating inertia and solving symmetric linear systems",
Mathematics of Computation 31, 163; Golub & Van Loan (2013), "Matrix Computations", section 4.4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.errors import first_true
from linalgx._core.matrix import sum_of_parts

ALPHA = (1 + math.sqrt(17)) / 8
"""Below this ratio of the diagonal to the largest entry of its column the pivot is not taken: least growth."""


class State(NamedTuple):
    """The factorisation before column k: finished columns to the left, the rest of the matrix in full."""

    W: jax.Array
    pivots: jax.Array
    info: jax.Array
    second: jax.Array
    """Whether column k is the second one of a 2 x 2 pivot."""


class Choice(NamedTuple):
    """What each matrix of the batch does in a column."""

    double: jax.Array
    """The pivot is 2 x 2."""
    kept: jax.Array
    """The row that is exchanged with row ``other`` (the same: no exchange)."""
    other: jax.Array
    failed: jax.Array
    """The column is zero: nothing to eliminate."""


def factor(A: jax.Array, *, hermitian: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """LD, signed pivots and info of ?sytrf or ?hetrf, of a matrix that is symmetric or Hermitian in full.

    Zeros above the diagonal; NaN in the whole lower triangle if there is NaN anywhere in it.
    """
    n = A.shape[-1]
    none = jnp.zeros_like(A[..., 0], jnp.int32) if n else jnp.zeros(A.shape[:-1], jnp.int32)
    info = jnp.sum(none, axis=-1, dtype=jnp.int32)
    if n == 0:
        return A, none, info

    def step(k: jax.Array, state: State) -> State:
        choice = _choose(k, state)
        W = _exchange(state.W, k, choice)
        W = _eliminate(W, k, choice, state.second, hermitian)
        number = jnp.where(choice.double, -(choice.other + 1), choice.other + 1)
        column = jnp.arange(n, dtype=jnp.int32)
        here = (column == k) & ~state.second[..., None] | (column == k + 1) & choice.double[..., None]
        return State(
            W=W,
            pivots=jnp.where(here, number[..., None], state.pivots),
            info=jnp.where((state.info == 0) & choice.failed, k + 1, state.info),
            second=choice.double,
        )

    start = State(A, none, info, info != 0)
    W, pivots, info, _ = lax.fori_loop(jnp.int32(0), jnp.int32(n), step, start)
    LD = jnp.tril(W)
    spoiled = jnp.any(jnp.isnan(LD), axis=-2)
    failed = jnp.any(spoiled, axis=-1)[..., None, None]
    info = jnp.where(info == 0, first_true(spoiled), info)
    return jnp.where(failed, jnp.tril(jnp.full_like(LD, jnp.nan)), LD), pivots, info


def _choose(k: jax.Array, state: State) -> Choice:
    """The pivot of Bunch and Kaufman: the diagonal if it is large enough, else that of the row of the largest entry
    of the column, else both together.
    """
    W, _, _, second = state
    row = jnp.arange(W.shape[-1], dtype=jnp.int32)
    column = sum_of_parts(lax.dynamic_index_in_dim(W, k, -1, keepdims=False))
    at_k = lax.dynamic_index_in_dim(column, k, -1, keepdims=False)
    below = jnp.where(row > k, column, 0)
    largest = jnp.max(below, axis=-1)
    r = jnp.where(largest > 0, jnp.argmax(below, axis=-1).astype(jnp.int32), k)
    rival = sum_of_parts(_columns(W, r[..., None])[..., 0])
    at_r = jnp.take_along_axis(rival, r[..., None], axis=-1)[..., 0]
    largest_r = jnp.max(jnp.where((row >= k) & (row != r[..., None]), rival, 0), axis=-1)
    failed = ~second & (((at_k == 0) & (largest == 0)) | jnp.isnan(at_k))
    # a product that underflows is no reason for a pivot that is zero
    small_serves = (at_k > 0) & (at_k >= ALPHA * largest * (largest / largest_r))
    stay = second | failed | (at_k >= ALPHA * largest) | small_serves
    double = ~stay & ~(at_r >= ALPHA * largest_r)
    return Choice(double, jnp.where(double, k + 1, k), jnp.where(stay, k, r), failed)


def _exchange(W: jax.Array, k: jax.Array, choice: Choice) -> jax.Array:
    """Rows and columns ``kept`` and ``other`` of the remaining matrix exchanged; LAPACK leaves the finished columns."""
    index = jnp.arange(W.shape[-1], dtype=jnp.int32)
    remaining = index >= k
    i, j = choice.kept[..., None], choice.other[..., None]
    pair = jnp.concatenate([i, j], axis=-1)
    rows = jnp.take_along_axis(W, pair[..., :, None], axis=-2)
    at_i, at_j = ((index == x)[..., :, None] & remaining for x in (i, j))
    W = jnp.where(at_i, rows[..., 1:, :], jnp.where(at_j, rows[..., :1, :], W))
    columns = _columns(W, pair)
    at_i, at_j = ((index == x)[..., None, :] & remaining[:, None] for x in (i, j))
    return jnp.where(at_i, columns[..., :, 1:], jnp.where(at_j, columns[..., :, :1], W))


def _eliminate(W: jax.Array, k: jax.Array, choice: Choice, second: jax.Array, hermitian: bool) -> jax.Array:
    """The multipliers X D^-1 below the pivot D, in place of its columns X, and the rest minus X D^-1 X^*."""
    star = jnp.conj if hermitian else lambda x: x
    index = jnp.arange(W.shape[-1], dtype=jnp.int32)
    double, idle = choice.double[..., None], (second | choice.failed)[..., None]
    x, y = (lax.dynamic_index_in_dim(W, k + i, -1, keepdims=False) for i in (0, 1))
    p, u = (lax.dynamic_index_in_dim(x, k + i, -1, keepdims=True) for i in (0, 1))
    q = lax.dynamic_index_in_dim(y, k + 1, -1, keepdims=True)
    u = jnp.where(double, u, 1)
    v = star(u)
    t = 1 / jnp.where(double, (p / u) * (q / v) - 1, 1)
    single = x / jnp.where(double | idle, 1, p)
    first = jnp.where(double, (t / v) * (x * (q / u) - y), single)
    other = jnp.where(double, (t / u) * (y * (p / v) - x), 0)
    y = jnp.where(double, y, 0)

    beyond = (index > jnp.where(double, k + 1, k)) & ~idle
    below = beyond[..., :, None]
    update = first[..., :, None] * star(x)[..., None, :] + other[..., :, None] * star(y)[..., None, :]
    rest = W - update
    if hermitian:
        rest = jnp.where(index[:, None] == index, jnp.real(rest).astype(W.dtype), rest)
    W = jnp.where(below & beyond[..., None, :], rest, W)
    W = jnp.where(below & (index == k), first[..., :, None], W)
    return jnp.where(below & (index == k + 1) & double[..., None], other[..., :, None], W)


def _columns(W: jax.Array, j: jax.Array) -> jax.Array:
    """Columns j of each matrix."""
    return jnp.take_along_axis(W, j[..., None, :], axis=-1)


# --- The packed form


class Structure(NamedTuple):
    """Where the packed form holds what, from the pivots alone: P A P^T = L D L^*.

    LAPACK stores a column of L in the order that the rows had when the column was finished; the interchanges of later
    steps do not reach it. The explicit L, unit lower triangular, has them all.
    """

    rows: jax.Array
    """(..., n, n): L[i, j] is stored in LD[rows[i, j], j]."""
    places: jax.Array
    """(..., n, n), its inverse: LD[i, j] holds L[places[i, j], j]."""
    permutation: jax.Array
    """(..., n): (P x)[i] = x[permutation[i]]."""
    inverse: jax.Array
    """(..., n): (P^T x)[i] = x[inverse[i]]."""
    paired: jax.Array
    """(..., n): column i is the first one of a 2 x 2 block of D."""


def starts_pair(pivots: jax.Array) -> jax.Array:
    """Whether a 2 x 2 block of D starts in a column: at the first, third, ... of the negative pivots."""
    negative = pivots < 0
    return negative & ((jnp.cumsum(negative, axis=-1, dtype=jnp.int32) - negative.astype(jnp.int32)) % 2 == 0)


@jax.jit
def structure(pivots: jax.Array) -> Structure:
    """The structure that LAPACK's signed pivots describe.

    A program by itself: where a rule is differentiated outside of one, JAX would compile these loops in each call.
    """
    n = pivots.shape[-1]
    negative = pivots < 0
    paired = starts_pair(pivots)
    index = jnp.arange(n, dtype=jnp.int32)
    other = jnp.where(paired, index, jnp.abs(pivots) - 1)
    start = index - (negative & ~paired).astype(jnp.int32)
    # a last column, which all interchanges reach, for the permutation
    column = jnp.arange(n + 1, dtype=jnp.int32)[None, :]
    unmoved = jnp.repeat((index + jnp.zeros_like(pivots))[..., None], n + 1, axis=-1)

    def interchange(k: jax.Array, values: jax.Array) -> jax.Array:
        first, at = (lax.dynamic_index_in_dim(x, k, -1)[..., None] for x in (start, other))
        moved = jnp.where(values == k, at, jnp.where(values == at, k, values))
        return jnp.where((column < first) | (column == n), moved, values)

    rows = places = unmoved
    if n:
        first, last = jnp.int32(0), jnp.int32(n)
        rows = lax.fori_loop(first, last, lambda k, values: interchange(n - 1 - k, values), unmoved)
        places = lax.fori_loop(first, last, interchange, unmoved)
    return Structure(rows[..., :n], places[..., :n], rows[..., -1], places[..., -1], paired)
