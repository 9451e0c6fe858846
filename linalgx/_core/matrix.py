"""The letters of the derivations: adjoint, Hermitian part, triangles, diagonals, ties of a spectrum.

All functions act on the last two axes (of a vector of eigenvalues: the last), under any leading batch axes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def T(X: jax.Array) -> jax.Array:
    """The transpose X^T."""
    return jnp.swapaxes(X, -1, -2)


def H(X: jax.Array) -> jax.Array:
    """The adjoint X^H, conjugate and transpose."""
    return jnp.conj(jnp.swapaxes(X, -1, -2))


def hermitian_part(X: jax.Array) -> jax.Array:
    """(X + X^H) / 2."""
    return 0.5 * (X + H(X))


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
    return jnp.diagonal(X, axis1=-2, axis2=-1)


def from_diagonal(d: jax.Array) -> jax.Array:
    """The diagonal matrix with ``d`` on its diagonal."""
    return d[..., None] * jnp.eye(d.shape[-1], dtype=d.dtype)


def identity(X: jax.Array, n: int | None = None) -> jax.Array:
    """The identity of order ``n`` (that of the rows of X), in the batch and dtype of ``X``."""
    n = X.shape[-2] if n is None else n
    return jnp.broadcast_to(jnp.eye(n, dtype=X.dtype), (*X.shape[:-2], n, n))


def reciprocal_gaps(
    values: jax.Array, negligible: jax.Array | bool = True, error: jax.Array | None = None
) -> jax.Array:
    """F_ij = 1 / (values_j - values_i), and 0 on the diagonal and where the two coincide: at a tie.

    Eigenvectors of values whose gap is at the level of the rounding error of the largest mix arbitrarily: a tie. A
    function that does not depend on the mixing has no part there, but for rounding errors, eps large, which become
    eps / gap. That already spoils a third of the digits where two values agree to two thirds of them; such a
    pair is tied, too, where it is known that what F multiplies is rounding error alone: ``negligible``, a mask of
    the shape of F. A rule that cannot know, as in forward mode, leaves it out: projectors onto clusters are then
    exact, but functions that tell the two apart are wrong, instead of right up to eps / gap.

    ``error``, in the shape of values, bounds the errors of values that are less accurate than those of a Hermitian
    matrix; it does not tie what differs in the first two thirds of the digits of the largest.
    """
    eps = jnp.finfo(values.dtype).eps
    magnitude = jnp.abs(values)
    largest = jnp.max(magnitude, axis=-1, initial=0)[..., None, None]
    rounding = 4 * math.sqrt(values.shape[-1]) * eps * largest
    if error is not None:
        rounding = jnp.maximum(rounding, larger_of_pair(error))
    two_thirds = eps ** (2 / 3)
    gaps = values[..., None, :] - values[..., :, None]
    close = (jnp.abs(gaps) <= two_thirds * larger_of_pair(magnitude)) & negligible
    tied = close | (jnp.abs(gaps) <= jnp.minimum(rounding, two_thirds * largest))
    return jnp.where(tied, 0, 1 / jnp.where(tied, 1, gaps))


def larger_of_pair(x: jax.Array) -> jax.Array:
    """The matrix of max(x_i, x_j)."""
    return jnp.maximum(x[..., :, None], x[..., None, :])
