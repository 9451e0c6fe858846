"""Numerical failure: an exception class, the ``info`` convention, and NaN in the failed matrix alone.

``info`` is int32 in the shape of the batch: 0 for success, else what LAPACK reports, counted from 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


class LinAlgError(np.linalg.LinAlgError):
    """A matrix for which the function has no answer: not positive definite, singular, not converged."""


def first_true(failed: jax.Array) -> jax.Array:
    """``info`` from a mask over the steps of an algorithm (last axis): the number of the first true one, or 0."""
    if failed.shape[-1] == 0:
        return jnp.zeros(failed.shape[:-1], jnp.int32)
    return jnp.where(jnp.any(failed, axis=-1), jnp.argmax(failed, axis=-1).astype(jnp.int32) + 1, 0)


def nan_where(failed: jax.Array, X: jax.Array) -> jax.Array:
    """``X`` with NaN in all of the matrices (last two axes) whose flag is set."""
    return jnp.where(failed[..., None, None], jnp.nan, X)


def not_finite(X: jax.Array) -> jax.Array:
    """The flag of the matrices (last two axes) that hold a NaN or an infinity."""
    return jnp.any(~jnp.isfinite(X), axis=(-2, -1))
