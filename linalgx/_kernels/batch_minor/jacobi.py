"""One-sided Jacobi: rotations that make the columns of small matrices orthogonal, the batch on the last axis.

A round rotates disjoint pairs of neighbouring columns, the pairs (0, 1), (2, 3), ... or the pairs (1, 2), (3, 4), ...
in turn, and exchanges the two of each pair: in any n rounds every column meets every other one (Brent & Luk's odd-even
ordering). The batch is worked on in parts; the rotations of a part end when all its members have converged.

Sources: Golub & Van Loan, Matrix Computations, sections 8.5 and 8.6; Brent & Luk (1985), "The solution of
singular-value and symmetric eigenvalue problems on multiprocessor arrays", SIAM J. Sci. Stat. Comput. 6; de Rijk
(1989), "A one-sided Jacobi algorithm for computing the singular value decomposition on a vector computer", SIAM J. Sci.
Stat. Comput. 10; Demmel & Veselic (1992), "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal. Appl. 13.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core import matrix
from linalgx._core.batch_minor import batch_minor, fold
from linalgx._core.loops import materialise, varying_alike

MOST_ROUNDS = 240
"""Where the rotations end at the latest; 20 to 60 are usual."""


def orthogonalise(W: jax.Array, rows: int) -> jax.Array:
    """W, shape (columns, all rows, B), times unitary matrices that make its columns orthogonal in the first ``rows``.

    Squares of squares of the entries of these rows must not overflow: see :func:`largest_exponent`.
    """
    n = W.shape[0]
    if n <= 2:
        # the second rotation is for what the first one leaves where the columns were nearly parallel
        return W if n == 1 else _round(materialise(_round(W, rows, 0)[0]), rows, 0)[0]

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        W, quiet, rounds = state
        W, large = _round(W, rows, 0)
        W, also = _round(materialise(W), rows, 1)
        return W, jnp.where(jnp.any(large | also), jnp.int32(0), quiet + 2), rounds + 2

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, quiet, rounds = state
        return (quiet < n) & (rounds < MOST_ROUNDS)

    start = varying_alike([W, jnp.int32(0), jnp.int32(0)])
    return lax.while_loop(unfinished, step, tuple(start))[0]


def _round(W: jax.Array, rows: int, first: int) -> tuple[jax.Array, jax.Array]:
    """W after a rotation and an exchange of the pairs from column ``first`` on, and where a rotation was large."""
    n, size, B = W.shape
    last = first + (n - first) // 2 * 2
    c, s, large = _rotations(W, rows, first, last)
    X, Y, c, s = W[first:last:2], W[first + 1 : last : 2], c[:, None], s[:, None]
    rotated = jnp.stack([jnp.conj(s) * X + c * Y, c * X - s * Y], axis=1).reshape(last - first, size, B)
    return jnp.concatenate([W[:first], rotated, W[last:]]), fold(jnp.logical_or, large, (0,))


def _rotations(W: jax.Array, rows: int, first: int, last: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each pair of columns, x = w_first and y the next, and so on: c, s, and whether the rotation is large.

    C (real) and s make c x - s y and conj(s) x + c y orthogonal. With alpha = |x|^2, beta = |y|^2, gamma = x^H y,
    delta = beta - alpha, it is the smaller of the two angles: c : s = (|delta| + sqrt(delta^2 + 4 |gamma|^2)) :
    +-2 conj(gamma). Below sqrt(eps) for the angle and the cosine of x and y, the next rotations undo no more than eps
    of this one.
    """
    eps, dtype = float(jnp.finfo(W.dtype).eps), W.dtype
    # each factor is a slice of its own: one that many terms are taken from would be copied
    lengths2 = squared_lengths(W[first:last, :rows])
    gamma = fold(jnp.add, jnp.conj(W[first:last:2, :rows]) * W[first + 1 : last : 2, :rows], (1,))
    parts = [jnp.real(gamma), jnp.imag(gamma)] if jnp.iscomplexobj(W) else [gamma]
    products = materialise(jnp.concatenate([lengths2, *parts]))
    alpha, beta = products[: last - first : 2], products[1 : last - first : 2]
    if jnp.iscomplexobj(W):
        real, imag = jnp.split(products[last - first :], 2)
        modulus2, gamma_conj = real * real + imag * imag, lax.complex(real, -imag)
    else:
        gamma_conj = products[last - first :]
        modulus2 = gamma_conj * gamma_conj
    delta, bound = beta - alpha, alpha * beta
    orthogonal = modulus2 <= rows * eps**2 * bound
    w = jnp.where(orthogonal, 1, jnp.abs(delta) + jnp.sqrt(delta * delta + 4 * modulus2))
    v2 = jnp.where(orthogonal, 0, 4 * modulus2)
    length = jnp.sqrt(w * w + v2)
    sign = jnp.where(orthogonal, 0, jnp.where(delta < 0, -jnp.full_like(w, 2), 2))
    large = ~orthogonal & ((modulus2 > 0.1 * eps * bound) | (v2 > 0.1 * eps * w * w))
    return (w / length).astype(dtype), sign.astype(dtype) * gamma_conj / length.astype(dtype), large


def descending(values: jax.Array) -> jax.Array:
    """The place of each value, counted along the first axis, in descending order; numbers of the values' dtype."""
    zero, one, count = jnp.zeros_like(values[0]), jnp.ones_like(values[0]), range(values.shape[0])

    def is_before(i: int, j: int) -> jax.Array:
        return jnp.where(values[i] >= values[j] if i < j else values[i] > values[j], one, zero)

    return materialise(jnp.stack([sum((is_before(i, j) for i in count if i != j), zero) for j in count]))


def sort(X: jax.Array, places: jax.Array) -> jax.Array:
    """X with what its first axis counts moved to these places."""
    n = X.shape[0]
    own = jnp.arange(n, dtype=places.dtype).reshape(n, *(1,) * (X.ndim - 1))
    result = jnp.broadcast_to(X[:1], X.shape)
    for i in range(1, n):
        result = jnp.where(places[i] == own, X[i], result)
    return result


def phases(X: jax.Array) -> jax.Array:
    """For each column of X, shape (columns, rows, B), the phase that :func:`linalgx._core.matrix.phases` gives it."""
    return batch_minor(lambda X: matrix.phases(matrix.T(X))[0])(X)


def scaled(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A / scale; scale, a power of two near the largest entry, 1 for the zero matrix; and where A is not finite.

    The matrix that is not finite is replaced by zero.
    """
    entries = A.reshape(math.prod(A.shape[:-1]), A.shape[-1])
    if jnp.iscomplexobj(A):
        entries = jnp.concatenate([jnp.real(entries), jnp.imag(entries)])
    largest = materialise(fold(jnp.maximum, jnp.abs(entries), (0,)))
    failed, numbers = ~jnp.isfinite(largest), jnp.finfo(A.dtype)
    # a scale whose reciprocal is a normal number, too
    clipped = jnp.clip(largest, numbers.tiny, 2.0 ** (int(numbers.maxexp) - 2))
    scale = lax.reduce_precision(clipped, exponent_bits=numbers.nexp, mantissa_bits=0)
    scale = jnp.where(failed | (largest == 0), 1, scale)
    return jnp.where(failed, 0, A) / scale.astype(A.dtype), scale, failed


def largest_exponent(dtype: Any) -> int:
    """The k with which entries up to 2^(k + 2) have squares of squares of sums that do not overflow."""
    return (int(jnp.finfo(dtype).maxexp) - 25) // 4


def squared_lengths(X: jax.Array) -> jax.Array:
    """The sum of |x|^2 over the rows (axis 1)."""
    return fold(jnp.add, matrix.squared_modulus(X), (1,))
