"""The letters of the derivations: adjoint, Hermitian part, triangles, diagonals, ties of a spectrum.

All functions act on the last two axes (of a vector of eigenvalues: the last), under any leading batch axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from linalgx._core.batch_minor import LARGEST, extent
from linalgx._core.in_turn import in_any_order


def T(X: jax.Array) -> jax.Array:
    """The transpose X^T."""
    return jnp.swapaxes(X, -1, -2)


def H(X: jax.Array) -> jax.Array:
    """The adjoint X^H, conjugate and transpose."""
    return jnp.conj(jnp.swapaxes(X, -1, -2))


def hermitian_part(X: jax.Array) -> jax.Array:
    """(X + X^H) / 2."""
    # no sum is out of range; XLA would take the factor out of 0.5 X + 0.5 X^H
    half = 0.5 * X
    return half + H(half)


def skew_part(X: jax.Array) -> jax.Array:
    """(X - X^H) / 2."""
    return 0.5 * (X - H(X))


def hermitian_from_triangle(X: jax.Array, lower: bool) -> jax.Array:
    """The Hermitian matrix of which ``X`` holds one triangle; nothing else of X is read."""
    strict = jnp.tril(X, -1) if lower else jnp.triu(X, 1)
    return strict + H(strict) + from_diagonal(jnp.real(diagonal(X)).astype(X.dtype))


def lower_half(X: jax.Array) -> jax.Array:
    """Phi(X): the lower triangle, its diagonal halved, so that Phi(X) + Phi(X)^H = X for Hermitian X."""
    return jnp.tril(X) - 0.5 * from_diagonal(diagonal(X))


def upper_half(X: jax.Array) -> jax.Array:
    """Psi(X): the upper triangle, its diagonal halved, so that Psi(X) + Psi(X)^H = X for Hermitian X."""
    return jnp.triu(X) - 0.5 * from_diagonal(diagonal(X))


def strictly_lower(X: jax.Array) -> jax.Array:
    """The part below the diagonal."""
    return jnp.tril(X, -1)


def strictly_upper(X: jax.Array) -> jax.Array:
    """The part above the diagonal."""
    return jnp.triu(X, 1)


def diagonal(X: jax.Array) -> jax.Array:
    """The main diagonal as a vector."""
    k, n = min(X.shape[-2:]), X.shape[-1]
    if extent(k) > LARGEST:
        return jnp.diagonal(X, axis1=-2, axis2=-1)
    # every (n + 1)-th entry, row by row: no gather, but a copy of a matrix that lies column by column
    entries = X[..., :k, :].reshape(*X.shape[:-2], k * n)
    return jax.lax.slice_in_dim(entries, 0, k * n, n + 1, axis=-1)


def from_diagonal(d: jax.Array) -> jax.Array:
    """The diagonal matrix with ``d`` on its diagonal."""
    return d[..., None] * jnp.eye(d.shape[-1], dtype=d.dtype)


FIRST_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def phases(X: jax.Array) -> jax.Array:
    """For each column of at most 12 entries the phase (sign) that makes sum_j sqrt(p_j) x_j real and positive: a row.

    p_j are the primes, for which the sum of no rational vector vanishes; where it does, the phase is 1.
    """
    weights = np.sqrt(FIRST_PRIMES[: X.shape[-2]])[:, None]
    total = jnp.sum(X * jnp.asarray(weights, X.dtype), axis=-2, keepdims=True)
    if not jnp.iscomplexobj(X):
        return jnp.where(total < 0, -jnp.ones_like(total), 1)
    modulus = jnp.abs(total)
    return jnp.where(modulus == 0, 1, jnp.conj(total) / jnp.where(modulus == 0, 1, modulus).astype(X.dtype))


def squared_modulus(x: jax.Array) -> jax.Array:
    """|x|^2, smooth also at 0."""
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2 if jnp.iscomplexobj(x) else x * x


def trace_of_product(X: jax.Array, Y: jax.Array) -> jax.Array:
    """tr(X Y)."""
    return jnp.sum(X * jnp.swapaxes(Y, -1, -2), axis=(-2, -1))


# Bounds of |x| within a factor of sqrt(2), which cost less and square nothing. They ask for the dtype first: XLA would
# write down the imaginary part of a real array, zeros.


def largest_part(x: jax.Array) -> jax.Array:
    """max(|Re x|, |Im x|)."""
    return jnp.maximum(jnp.abs(jnp.real(x)), jnp.abs(jnp.imag(x))) if jnp.iscomplexobj(x) else jnp.abs(x)


def sum_of_parts(x: jax.Array) -> jax.Array:
    """|Re x| + |Im x|, by which LAPACK compares."""
    return jnp.abs(jnp.real(x)) + jnp.abs(jnp.imag(x)) if jnp.iscomplexobj(x) else jnp.abs(x)


def largest_entry(A: jax.Array) -> jax.Array:
    """The largest max(|Re a|, |Im a|) in each matrix, its axes kept; 0 where there is none."""
    return jnp.max(largest_part(A), axis=(-2, -1), keepdims=True, initial=0)


def normalise_phases(X: jax.Array) -> jax.Array:
    """The columns of ``X`` times their :func:`phases`."""
    return X * phases(X)


def identity(X: jax.Array, n: int | None = None) -> jax.Array:
    """The identity of order ``n`` (that of the rows of X), in the batch and dtype of ``X``."""
    n = X.shape[-2] if n is None else n
    shape = (*X.shape[:-2], n, n)
    # on an explicit mesh it is shared out as X is
    shared = jax.typeof(X).sharding
    out_sharding = shared if any(axis is not None for axis in shared.spec) else None
    return jax.lax.broadcast_in_dim(
        jnp.eye(n, dtype=X.dtype), shape, (len(shape) - 2, len(shape) - 1), out_sharding=out_sharding
    )


def reciprocal_gaps(values: jax.Array, error: jax.Array | None = None) -> jax.Array:
    """F_ij = 1 / (values_j - values_i), and 0 on the diagonal and where the two coincide: at a tie.

    Two values are tied if they agree to two thirds of their digits, or if their gap is at the level of the rounding
    error of the largest. Eigenvectors mix arbitrarily at such a gap, and a function that does not depend on the mixing
    has no part there but for rounding errors, eps large, which 1 / gap would blow up. (To look whether what F
    multiplies is rounding error alone would tell such functions from others, but the rules would not be linear.)

    ``error``, in the shape of values, bounds the errors of values that are less accurate than those of a Hermitian
    matrix; it does not tie what differs in the first two thirds of the digits of the largest.
    """
    eps = jnp.finfo(values.dtype).eps
    magnitude = jnp.abs(values)
    largest = jnp.max(magnitude, axis=-1, initial=0)[..., None, None]
    # LAPACK's eigenvalues that coincide were up to 5 sqrt(n) eps apart (n = 3 to 12, 3000 matrices each)
    rounding = 8 * jnp.sqrt(jnp.asarray(values.shape[-1], largest.dtype)) * eps * largest
    if error is not None:
        rounding = jnp.maximum(rounding, larger_of_pair(error))
    two_thirds = eps ** (2 / 3)
    gaps = values[..., None, :] - values[..., :, None]
    threshold = jnp.maximum(two_thirds * larger_of_pair(magnitude), jnp.minimum(rounding, two_thirds * largest))
    tied = jnp.abs(gaps) <= threshold
    return jnp.where(tied, 0, 1 / jnp.where(tied, 1, gaps))


def larger_of_pair(x: jax.Array) -> jax.Array:
    """The matrix of max(x_i, x_j)."""
    return jnp.maximum(x[..., :, None], x[..., None, :])


def reciprocal_sums(values: jax.Array) -> jax.Array:
    """1 / (values_j + values_i) of singular values, and 0 where both are zero up to rounding."""
    return _reciprocal_above_rounding(values[..., None, :] + values[..., :, None], values)


def reciprocal_magnitudes(values: jax.Array) -> jax.Array:
    """1 / values_i of singular values, and 0 where it is zero up to rounding."""
    return _reciprocal_above_rounding(values, values)


def _reciprocal_above_rounding(x: jax.Array, values: jax.Array) -> jax.Array:
    """1 / x, and 0 where x is at the level of the rounding error of the largest of the ``values``."""
    largest = jnp.max(values, axis=-1, initial=0).reshape(values.shape[:-1] + (1,) * (x.ndim - values.ndim + 1))
    zero = x <= 8 * values.shape[-1] * jnp.finfo(values.dtype).eps * largest
    return jnp.where(zero, 0, 1 / jnp.where(zero, 1, x))


def rank_tolerances(
    shape: tuple[int, ...], dtype: DTypeLike, atol: jax.Array | None, rtol: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """The absolute and the relative tolerance of :func:`kept_singular_values`, in the real ``dtype``.

    Where they are not given: ``atol`` is 0; ``rtol`` is eps * max(m, n), but 0 where a positive ``atol`` is given.
    """
    rounding = jnp.asarray(max(shape[-2:]) * jnp.finfo(dtype).eps, dtype)
    if rtol is None:
        rtol = rounding if atol is None else jnp.where(atol > 0, 0, rounding)
    return jnp.zeros_like(rtol) if atol is None else atol, rtol


def kept_singular_values(
    S: jax.Array, shape: tuple[int, ...], atol: jax.Array | None = None, rtol: jax.Array | None = None
) -> jax.Array:
    """Which of the singular values (or magnitudes of eigenvalues) ``S`` of a matrix of ``shape`` count as nonzero.

    Those greater than max(atol, rtol * the largest), the rule of torch, and greater than 0. The tolerances are real,
    in the dtype of S, and broadcast against its batch axes. Of NaN nothing is kept.
    """
    atol, rtol = rank_tolerances(shape, S.dtype, atol, rtol)
    threshold = jnp.maximum(rtol * jnp.max(S, axis=-1, initial=0), atol)
    return S > jnp.maximum(threshold, 0)[..., None]


def after(X: jax.Array, Y: jax.Array) -> jax.Array:
    """Y as it is, but as a value that XLA cannot compute before X.

    Two batched calls of LAPACK that do not need one another can wait for ever (:mod:`linalgx._core.in_turn`). Where a
    rule solves with the factors that the value was solved with, this puts the two in a row, also if they are in
    different functions of a program. XLA cannot see that zero times a finite number is zero.

    A transpose in X must not see it, either: it would take Y for linear in X.
    """
    if in_any_order.value:
        return Y
    X = jax.lax.stop_gradient(X)
    if X.shape != Y.shape:
        X = jnp.sum(X[(slice(0, 1),) * X.ndim])
        X = (jnp.real(X) if not jnp.iscomplexobj(Y) else X).astype(Y.dtype)
    return Y + jnp.where(jnp.isfinite(X), 0 * X, 0)
