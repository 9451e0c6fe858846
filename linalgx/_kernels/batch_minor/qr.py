"""QR decomposition of small matrices by Householder reflections, the batch on the last axis.

Sources: Golub & Van Loan, Matrix Computations, sections 5.1 and 5.2; LAPACK's ?larfg, whose signs these are.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from linalgx._core.loops import in_parts, materialise
from linalgx._core.matrix import largest_part, squared_modulus
from linalgx._kernels.exponents import power_of_two


def qr(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Q, shape (m, k, B), and R, shape (k, n, B), with A = Q R."""

    def decompose(A: jax.Array) -> list[jax.Array]:
        vectors, factors, R = _reduce(A)
        return [_product(vectors, factors, columns=len(factors)), R]

    Q, R = _in_parts(decompose, A)
    return Q, R


def householder_qr(A: jax.Array, *, full: bool) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Q, R, and the vectors V and factors tau of the reflections; Q is square if ``full``."""

    def decompose(A: jax.Array) -> list[jax.Array]:
        vectors, factors, R = _reduce(A)
        m, k = A.shape[0], len(factors)
        V = jnp.stack([_unit_vector(v, m) for v in vectors], axis=1)
        return [_product(vectors, factors, columns=m if full else k), R, V, jnp.stack(factors)]

    Q, R, V, tau = _in_parts(decompose, A)
    return Q, R, V, tau


def _in_parts(decompose: Callable[[jax.Array], list[jax.Array]], A: jax.Array) -> list[jax.Array]:
    return decompose(A) if _is_tiny(*A.shape[:2]) else in_parts(decompose, A)


def _reduce(A: jax.Array) -> tuple[list[jax.Array], list[jax.Array], jax.Array]:
    """The vectors of the reflections, below their leading 1, their factors, and R = H_k^H ... H_1^H A.

    Each step takes its reflection to all columns; what is zero in R is put there at the end, also in a matrix of NaN.
    """
    keep = _keep(*A.shape[:2])
    column = jnp.arange(A.shape[1])[:, None]
    vectors, factors, rows = [], [], []
    scale, inverse = _scale(A)
    block = keep(A * keep(scale)[None, None].astype(A.dtype))
    for j in range(min(A.shape[:2])):
        beta, tau, v = _reflection(block[:, j], keep)
        w = keep(jnp.conj(tau)[None] * _inner(v, block[1:], block[0]))
        rows.append(jnp.where(column > j, block[0] - w, beta[None]))
        vectors.append(v)
        factors.append(tau)
        block = keep(block[1:] - v[:, None] * w[None])
    R = jnp.stack(rows) * keep(inverse)[None, None].astype(A.dtype)
    return vectors, factors, jnp.where(jnp.arange(len(rows))[:, None, None] <= column, R, 0)


def _scale(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A power of two that makes A as large as it may be: products of its entries then lose no digits to underflow.

    And its reciprocal, by itself: XLA makes x / (c / m) to (x m) / c, where the product overflows.
    """
    numbers = jnp.finfo(A.dtype)
    largest = functools.reduce(jnp.maximum, (largest_part(entry) for row in A for entry in row))
    size = jnp.maximum(power_of_two(largest), 2.0**-14)
    return 2.0 ** (numbers.maxexp - 16) / size, size * 2.0 ** (16 - numbers.maxexp)


def _reflection(x: jax.Array, keep: Callable[[jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Beta, tau, and v below its leading 1: H = I - tau [1; v] [1; v]^H with H^H x = beta e_1 and beta real.

    tau = 0 where the entries below the first are zero and the first is real. The length is that of x / 2^e, whose
    largest entry is near 1: no square overflows, and none that counts underflows.
    """
    real, imag = jnp.real(x[0]), jnp.imag(x[0])
    rest = functools.reduce(jnp.maximum, map(largest_part, x[1:]), jnp.abs(imag))
    scale = keep(power_of_two(jnp.maximum(jnp.abs(real), rest)))
    x = x * (1 / scale)[None].astype(x.dtype)
    first, below = x[0], x[1:]
    length = jnp.sqrt(functools.reduce(operator.add, map(squared_modulus, below), squared_modulus(first)))
    beta = keep(jnp.where(rest == 0, jnp.real(first), -jnp.copysign(length, real)))
    tau = (beta.astype(x.dtype) - first) / jnp.where(rest == 0, 1, beta).astype(x.dtype)
    v = keep(below / jnp.where(rest == 0, 1, first - beta.astype(x.dtype))[None])
    return (scale * beta).astype(x.dtype), tau, v


def _product(vectors: list[jax.Array], factors: list[jax.Array], columns: int) -> jax.Array:
    """The first columns of Q = H_1 ... H_k, of which the last reflections are multiplied first.

    The reflections from the j-th on leave the first j - 1 rows as they are: only the others are computed with.
    """
    k = len(factors)
    m = k + vectors[-1].shape[0]
    keep = _keep(m, columns)
    identity = jnp.broadcast_to(
        jnp.eye(m, columns, dtype=factors[0].dtype)[:, :, None], (m, columns, *factors[0].shape)
    )
    Q = identity[k:]
    for j in reversed(range(k)):
        v, top = vectors[j], identity[j]
        w = keep(factors[j][None] * _inner(v, Q, top))
        Q = keep(jnp.concatenate([(top - w)[None], Q - v[:, None] * w[None]]))
    return Q


def _inner(v: jax.Array, X: jax.Array, top: jax.Array) -> jax.Array:
    """[1; v]^H [top; X]."""
    return functools.reduce(operator.add, (jnp.conj(v[i])[None] * X[i] for i in range(v.shape[0])), top)


def _unit_vector(v: jax.Array, m: int) -> jax.Array:
    """[0; 1; v], of length m."""
    return jnp.pad(jnp.concatenate([jnp.ones_like(v, shape=(1, *v.shape[1:])), v]), ((m - 1 - v.shape[0], 0), (0, 0)))


def _keep(m: int, n: int) -> Callable[[jax.Array], jax.Array]:
    return (lambda x: x) if _is_tiny(m, n) else materialise


def _is_tiny(m: int, n: int) -> bool:
    """Whether it costs less to compute some values anew, in every loop that reads them, than to write them down."""
    return max(m, n) <= 2
