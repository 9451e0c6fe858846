"""Gaussian elimination that LAPACK's interface in JAX does not offer: what failed, and without pivoting.

Loops over the columns, one rank-1 update a step, for the whole batch at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._kernels import lapack

BLOCK = 64
"""Columns that are eliminated one by one before the rest of the matrix is brought up to date by a product."""


def lu_without_interchanges(A: jax.Array) -> jax.Array:
    """L and U of A = L U in one matrix; infinities and NaN from the first zero pivot on, if there is one.

    A zero pivot with nothing but zeros below it needs no elimination: its multipliers are zero.
    """
    steps = min(A.shape[-2:])
    LU = A
    for start in range(0, steps, BLOCK):
        stop = min(start + BLOCK, steps)
        panel = lax.fori_loop(0, stop - start, lambda k, X: _eliminate(X, k), LU[..., start:, start:stop])
        LU = LU.at[..., start:, start:stop].set(panel)
        top, below = panel[..., : stop - start, :], panel[..., stop - start :, :]
        beside = lapack.solve_triangular(top, LU[..., start:stop, stop:], lower=True, unit_diagonal=True)
        LU = LU.at[..., start:stop, stop:].set(beside)
        LU = LU.at[..., stop:, stop:].add(-below @ beside)
    return LU


def first_failing_minor(A: jax.Array, L: jax.Array) -> jax.Array:
    """``info`` of the Cholesky factorisation L of Hermitian A: the order of its first minor that is not positive, or 0.

    Only when some L holds NaN are the minors looked for: the pivots of an elimination without interchanges are the
    quotients of consecutive leading minors.
    """
    failed = jnp.any(jnp.isnan(jnp.real(L)), axis=(-2, -1))
    success = jnp.where(failed, jnp.int32(0), jnp.int32(0))
    if A.shape[-1] == 0:
        return success

    def look(A: jax.Array) -> jax.Array:
        n = A.shape[-1]

        def step(k: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            A, info = state
            pivot = jnp.real(lax.dynamic_index_in_dim(lax.dynamic_index_in_dim(A, k, -1, False), k, -1, False))
            info = jnp.where((info == 0) & ~(pivot > 0), (k + 1).astype(jnp.int32), info)
            return _eliminate(A, k), info

        info = lax.fori_loop(0, n, step, (A, success))[1]
        # a minor that is zero up to rounding may count as positive here: the last one does not
        return jnp.where(failed, jnp.where(info == 0, n, info), 0)

    return lax.cond(jnp.any(failed), look, lambda A: success, A)


def _eliminate(A: jax.Array, k: jax.Array) -> jax.Array:
    """A after step k: multipliers in column k below the diagonal, the trailing block updated by their outer product."""
    column = lax.dynamic_index_in_dim(A, k, -1, keepdims=False)
    row = lax.dynamic_index_in_dim(A, k, -2, keepdims=False)
    pivot = lax.dynamic_index_in_dim(column, k, -1, keepdims=True)
    below, right = (jnp.arange(size) > k for size in (A.shape[-2], A.shape[-1]))
    multipliers = jnp.where(below & (column != 0), column / pivot, 0)
    update = multipliers[..., :, None] * jnp.where(right, row, 0)[..., None, :]
    return jnp.where((jnp.arange(A.shape[-1]) == k) & below[:, None], multipliers[..., :, None], A - update)
