"""Singular value decomposition of small matrices by one-sided Jacobi, the batch on the last axis.

Rotations from the right make the columns of A V orthogonal: their lengths are the singular values. A wide matrix is
treated as its adjoint.

Sources: those of :mod:`linalgx._kernels.batch_minor.jacobi`; Golub & Van Loan, Matrix Computations, section 8.6.3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.batch_minor import fold
from linalgx._core.loops import in_parts, materialise
from linalgx._core.matrix import squared_modulus
from linalgx._kernels.batch_minor import jacobi


def svd(A: jax.Array, *, full_matrices: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, the singular values in descending order, and V^H; NaN in all of them for a matrix that is not finite."""
    wide = A.shape[0] < A.shape[1]

    def decompose(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return _decompose(A, full=full_matrices, wide=wide)

    A = _adjoint(A) if wide else A
    U, S, V = in_parts(decompose, A)
    return (V, S, _adjoint(U)) if wide else (U, S, _adjoint(V))


def svdvals(A: jax.Array) -> jax.Array:
    """The singular values in descending order; NaN for a matrix that is not finite."""
    A = _adjoint(A) if A.shape[0] < A.shape[1] else A
    return in_parts(_values, A)


def _values(A: jax.Array) -> jax.Array:
    A, scale, failed = jacobi.scaled(A)
    power = 2.0 ** jacobi.largest_exponent(A.dtype)
    W = jacobi.orthogonalise(jnp.swapaxes(A, 0, 1) * power, A.shape[0])
    lengths2 = materialise(jacobi.squared_lengths(W))
    lengths2 = jacobi.sort(lengths2, jacobi.descending(lengths2))
    # the root keeps XLA from making one factor, which could underflow, of the two
    return jnp.where(failed, jnp.nan, jnp.sqrt(lengths2 / power**2) * scale)


def _decompose(A: jax.Array, *, full: bool, wide: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, S and V of a matrix that is not wide; phases are those of U if it is the V of a ``wide`` matrix."""
    m, n, B = A.shape
    A, scale, failed = jacobi.scaled(A)
    power = 2.0 ** jacobi.largest_exponent(A.dtype)
    identity = jnp.broadcast_to(jnp.eye(n, dtype=A.dtype)[:, :, None], (n, n, B))
    W = jacobi.orthogonalise(jnp.concatenate([jnp.swapaxes(A, 0, 1) * power, identity], axis=1), m)
    lengths2 = materialise(jacobi.squared_lengths(W[:, :m]))
    # where the square of the square underflows, nothing is known of the direction
    zero = lengths2 <= 2 * float(jnp.finfo(A.dtype).tiny) ** 0.5
    phases = jacobi.phases(W[:, m:])
    if wide:
        phases = jnp.where(zero, phases, jacobi.phases(W[:, :m]))
    phases = materialise(jnp.where(failed, jnp.nan, phases))
    inverse = jnp.where(zero, 0, lax.rsqrt(jnp.where(zero, 1, lengths2)))
    places = jacobi.descending(lengths2)
    U = jacobi.sort(W[:, :m] * (phases * inverse.astype(A.dtype))[:, None], places)
    V = jacobi.sort(W[:, m:] * phases[:, None], places)
    lengths2 = materialise(jacobi.sort(jnp.where(zero, 0, lengths2), places))
    missing = lengths2 == 0
    if full and m > n:
        U = jnp.concatenate([U, jnp.zeros((m - n, m, B), A.dtype)])
        missing = jnp.concatenate([missing, jnp.ones((m - n, B), bool)])
    U = lax.cond(jnp.any(missing), _complete, lambda U, missing: U, U, missing)
    # the root keeps XLA from making one factor, which could underflow, of the two
    S = jnp.where(failed, jnp.nan, jnp.sqrt(lengths2 / power**2) * scale)
    return jnp.where(failed, jnp.nan, jnp.swapaxes(U, 0, 1)), S, jnp.swapaxes(V, 0, 1)


def _complete(U: jax.Array, missing: jax.Array) -> jax.Array:
    """U, shape (columns, rows, B), with unit columns orthogonal to the others in place of the missing ones.

    Of the basis vectors, the one farthest from the space of the columns has a distance of at least 1 / sqrt(rows): its
    projection on the complement, done twice, is orthogonal to rounding.
    """

    def step(j: jax.Array, U: jax.Array) -> jax.Array:
        inside = fold(jnp.add, squared_modulus(U), (0,))
        e = (jacobi.descending(-inside) == 0).astype(U.dtype)
        for _ in range(2):
            e = e - fold(jnp.add, U * fold(jnp.add, jnp.conj(U) * e, (1,))[:, None], (0,))
        e = e * (jacobi.phases(e[None])[0] / jnp.sqrt(fold(jnp.add, squared_modulus(e), (0,))).astype(U.dtype))
        return jnp.where((columns == j) & missing[:, None], e, U)

    columns = jnp.arange(U.shape[0])[:, None, None]
    end = jnp.max(jnp.where(missing, columns[:, :, 0] + 1, 0), initial=0)
    return lax.fori_loop(0, end, step, U)


def _adjoint(X: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(X, 0, 1))
