"""Cholesky factorisation and triangular systems of small matrices, the batch on the last axis.

Quotients and square roots are values that XLA does not compute twice: they end every step, so that what is made of
them need not be materialised.

Source: Golub & Van Loan, Matrix Computations, sections 3.1.2 and 4.2.5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from linalgx._core.entrywise import joined
from linalgx._core.loops import materialise
from linalgx._kernels.batch_minor.products import multiply

LONG = 6
"""The rows from which on each is kept in memory rather than computed again by those after it."""


def cholesky(A: jax.Array) -> jax.Array:
    """L with A = L L^H, of the Hermitian part of A; NaN in the factor of a matrix that is not positive definite."""
    n = A.shape[0]
    # complex products are many operations of which XLA computes each again for all who read them
    keep = materialise if n > 2 and jnp.iscomplexobj(A) else lambda x: x
    L: list[list[jax.Array]] = [[] for _ in range(n)]
    # row by row: XLA would take the factor out of the sum of two entries, which could overflow
    half = [0.5 * row for row in A]
    for j in range(n):
        column = [half[i][j] + jnp.conj(half[j][i]) for i in range(j, n)]
        for k in range(j):
            column = [entry - L[i][k] * jnp.conj(L[j][k]) for i, entry in enumerate(column, start=j)]
        pivot = _root(column[0])
        reciprocal = 1 / pivot
        for row, entry in zip(L[j:], [pivot, *(keep(entry * reciprocal) for entry in column[1:])], strict=True):
            row.append(entry)
    # a pivot that is not positive makes all that is behind it NaN, the last entry always
    failed = jnp.isnan(jnp.real(L[-1][-1]))
    zero = jnp.zeros_like(A[0, 0])
    rows = [[*(jnp.where(failed, jnp.nan, entry) for entry in row), *[zero] * (n - len(row))] for row in L]
    return joined(rows)


def _root(pivot: jax.Array) -> jax.Array:
    real = jnp.real(pivot)
    return jnp.sqrt(jnp.where(real > 0, real, jnp.nan)).astype(pivot.dtype)


def solve_triangular(
    A: jax.Array,
    B: jax.Array,
    *,
    lower: bool,
    left: bool = True,
    unit_diagonal: bool = False,
    adjoint: bool = False,
) -> jax.Array:
    """X with op(A) X = B or X op(A) = B, where op(A) is A or its adjoint."""
    if min(B.shape[:2]) > 1 and 2 < A.shape[0] < LONG:
        # of several columns each row computes those before it again, and all of B for them
        B = materialise(B, if_moved=False)
    if adjoint:
        A, lower = jnp.conj(jnp.swapaxes(A, 0, 1)), not lower
    if left:
        return _substitute(A, B, lower=lower, unit_diagonal=unit_diagonal)
    # X A = B is A^T X^T = B^T
    A, B = jnp.swapaxes(A, 0, 1), jnp.swapaxes(B, 0, 1)
    return jnp.swapaxes(_substitute(A, B, lower=not lower, unit_diagonal=unit_diagonal), 0, 1)


def _substitute(A: jax.Array, B: jax.Array, *, lower: bool, unit_diagonal: bool = False) -> jax.Array:
    """X with A X = B, row by row."""
    n = A.shape[0]
    # of several columns XLA multiplies by the reciprocal of the diagonal entry: that is no quotient
    keep = materialise if n >= LONG and B.shape[1] > 1 else lambda x: x
    rows: dict[int, jax.Array] = {}
    for i in range(n) if lower else reversed(range(n)):
        row = B[i]
        for k, known in rows.items():
            row = row - A[i, k] * known
        rows[i] = keep(row if unit_diagonal else row / A[i, i])
    return jnp.stack([rows[i] for i in range(n)])


def cholesky_solve(L: jax.Array, B: jax.Array) -> jax.Array:
    """X with L L^H X = B."""
    return _substitute(jnp.conj(jnp.swapaxes(L, 0, 1)), _substitute(L, B, lower=True), lower=False)


def cholesky_inverse(L: jax.Array) -> jax.Array:
    """(L L^H)^-1."""
    n = L.shape[0]
    identity = jnp.broadcast_to(jnp.eye(n, dtype=L.dtype)[..., None], L.shape)
    Y = _substitute(L, identity, lower=True)
    return multiply(jnp.conj(jnp.swapaxes(Y, 0, 1)), Y)
