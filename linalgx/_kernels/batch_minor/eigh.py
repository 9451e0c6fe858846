"""Hermitian eigendecomposition of small matrices by Jacobi's method, the batch on the last axis.

With H = A + shift = L L^H, rotations from the right make the columns of L Q orthogonal: their directions are the
eigenvectors of H, their squared lengths its eigenvalues. No product of rotations is needed. The shift is zero where A
is positive definite, which keeps the high relative accuracy of Demmel & Veselic's method, and else makes H safely so;
the eigenvalues of A are Rayleigh's quotients then.

Sources: those of :mod:`linalgx._kernels.batch_minor.jacobi`; Veselic & Hari (1989), "A note on a one-sided Jacobi
algorithm", Numer. Math. 56.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from linalgx._core.batch_minor import fold
from linalgx._core.loops import in_parts, many_threads, materialise
from linalgx._core.matrix import squared_modulus
from linalgx._kernels.batch_minor import jacobi


def eigh(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ascending eigenvalues, and the eigenvectors, of the Hermitian part of A; NaN where A is not finite."""
    if A.shape[0] <= 2:
        return _small(A)
    return in_parts(_decompose, A)


def eigvalsh(A: jax.Array) -> jax.Array:
    """Ascending eigenvalues of the Hermitian part of A; NaN where A is not finite."""
    if A.shape[0] <= 2:
        return _small(A)[0]
    return in_parts(_values, A)


def _values(A: jax.Array) -> jax.Array:
    _, l, _, scale, failed = _orthogonal(A)
    return jnp.where(failed, jnp.nan, jacobi.sort(l, jacobi.descending(-l)) * scale)


def _decompose(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    W, l, lengths2, scale, failed = _orthogonal(A)
    places = jacobi.descending(-l)
    factors = materialise(jnp.where(failed, jnp.nan, jacobi.phases(W)) / jnp.sqrt(lengths2).astype(W.dtype))
    V = jnp.swapaxes(jacobi.sort(W * factors[:, None], places), 0, 1)
    return jnp.where(failed, jnp.nan, jacobi.sort(l, places) * scale), V


def _orthogonal(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Columns W along the eigenvectors of A; the eigenvalues of A / scale; |W|^2; scale; where A is not finite."""
    H, scale, failed = _scaled(A)
    L, shift = _factor(H)
    power = 2.0 ** (jacobi.largest_exponent(A.dtype) - 4)
    W = jacobi.orthogonalise(L * power, H.shape[0])
    lengths2 = materialise(jacobi.squared_lengths(W))
    shifted = shift > 0

    def with_quotients(l: jax.Array) -> jax.Array:
        return jnp.where(shifted, _quotients(H, W) / lengths2, l)

    l = lengths2 / power**2
    l = with_quotients(l) if many_threads.value else lax.cond(jnp.any(shifted), with_quotients, lambda l: l, l)
    return W, materialise(l), lengths2, scale, failed


def _quotients(H: jax.Array, W: jax.Array) -> jax.Array:
    """Rayleigh's w^H H w of each column: to subtract the shift would leave the rounding errors of H + shift."""
    HW = functools.reduce(jnp.add, (H[:, k] * W[:, k, None] for k in range(H.shape[0])))
    return fold(jnp.add, jnp.real(jnp.conj(W) * HW), (1,))


def _scaled(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The Hermitian part of A / scale; scale; where A is not finite."""
    A, scale, failed = jacobi.scaled(A)
    return 0.5 * (A + jnp.conj(jnp.swapaxes(A, 0, 1))), scale, failed


def _factor(H: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The columns of L, and the shift, zero where H is positive definite, with L L^H = H + shift."""
    identity = jnp.eye(H.shape[0], dtype=H.dtype)[:, :, None]

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, shift, tried = state
        L = _cholesky(H + shift.astype(H.dtype) * identity)
        return L, jnp.where(_failed(L), _shift(H), shift), tried + 1

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        L, _, tried = state
        return (tried < 2) & jnp.any(_failed(L))

    start = jnp.full_like(H, jnp.nan), jnp.zeros_like(H[0, 0].real), jnp.zeros((), jnp.int32)
    # a second factorisation takes a thread less than the loop
    L, shift, _ = step(step(start)) if many_threads.value else lax.while_loop(unfinished, step, start)
    return L, shift


def _failed(L: jax.Array) -> jax.Array:
    return jnp.isnan(jnp.real(L[-1, -1]))


def _cholesky(H: jax.Array) -> jax.Array:
    """The columns of L, shape (columns, rows, B); NaN in the last ones if a pivot is not positive, or underflows."""
    n, smallest = H.shape[0], float(jnp.finfo(H.dtype).tiny) ** 0.5
    columns: list[jax.Array] = []
    for j in range(n):
        rest = H[j:, j]
        for k, column in enumerate(columns):
            rest = rest - column[j - k :] * jnp.conj(column[j - k])
        pivot = jnp.real(rest[0])
        root = jnp.sqrt(jnp.where(pivot > smallest, pivot, -1)).astype(H.dtype)
        columns.append(materialise(jnp.concatenate([root[None], rest[1:] / root])))
    return jnp.stack([jnp.pad(column, [(j, 0), (0, 0)]) for j, column in enumerate(columns)])


def _shift(H: jax.Array) -> jax.Array:
    """What makes H safely positive definite: a little more than the bound of Gershgorin's circles."""
    moduli = jnp.sqrt(squared_modulus(H)) if jnp.iscomplexobj(H) else jnp.abs(H)
    diagonal = jnp.stack([jnp.real(H[i, i]) for i in range(H.shape[0])])
    bound = fold(jnp.maximum, fold(jnp.add, moduli, (0,)) - jnp.abs(diagonal) - diagonal, (0,))
    bound = jnp.maximum(bound, 0)
    return bound + 0.0625 * (1 + bound)


def _small(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of order 1 or 2: one rotation."""
    H, scale, failed = _scaled(A)
    if H.shape[0] == 1:
        l, V = jnp.real(H[0]), jnp.ones_like(A)
    else:
        l, V = _rotated(jnp.real(H[0, 0]), jnp.real(H[1, 1]), H[1, 0])
    V = V * jacobi.phases(jnp.swapaxes(V, 0, 1))
    return jnp.where(failed, jnp.nan, l * scale), jnp.where(failed, jnp.nan, V)


def _rotated(a: jax.Array, d: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of [[a, conj(b)], [b, d]]."""
    modulus = jnp.sqrt(squared_modulus(b)) if jnp.iscomplexobj(b) else jnp.abs(b)
    phase = jnp.where(modulus == 0, 1, b / jnp.where(modulus == 0, 1, modulus).astype(b.dtype))
    diagonal = modulus == 0
    zeta = (d - a) / jnp.where(diagonal, 1, 2 * modulus)
    sign = jnp.where(zeta < 0, -jnp.ones_like(zeta), 1)
    t = jnp.where(diagonal, 0, sign) / (jnp.abs(zeta) + jnp.sqrt(1 + zeta * zeta))
    c = 1 / jnp.sqrt(1 + t * t)
    s = c * t
    x, y = a - t * modulus, d + t * modulus
    # the columns [c, -s phase] and [s, c phase] belong to x and y
    swap = x > y
    l = jnp.stack([jnp.minimum(x, y), jnp.maximum(x, y)])
    first = jnp.stack([jnp.where(swap, s, c).astype(b.dtype), jnp.where(swap, c, -s).astype(b.dtype) * phase])
    second = jnp.stack([jnp.where(swap, c, s).astype(b.dtype), jnp.where(swap, -s, c).astype(b.dtype) * phase])
    return l, jnp.stack([first, second], axis=1)
