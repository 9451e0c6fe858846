"""Overflow and underflow: out of reach of single precision that is computed in double, and found where it is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_single(x: jax.Array) -> bool:
    """Whether numbers of this dtype, or their parts, have 32 bits."""
    return int(jnp.finfo(x.dtype).bits) == 32


def in_double(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A function of a single-precision array that goes by :func:`as_double`, and whose results are rounded at the end.

    In double precision no product of six such numbers leaves the range, and that of two is exact. It is so with
    ``jax_enable_x64`` off, too: nothing double comes in or goes out.
    """

    def rounded(x: jax.Array) -> Any:
        with jax.enable_x64(True):
            return jax.tree.map(_as_single, function(x))

    return rounded


def as_double(x: jax.Array) -> jax.Array:
    """The array in double precision; only inside of :func:`in_double`."""
    return x.astype(np.promote_types(x.dtype, np.float64))


def _as_single(x: jax.Array) -> jax.Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.complex64 if jnp.iscomplexobj(x) else jnp.float32)


def some_nan(x: jax.Array) -> jax.Array:
    """Whether there is a NaN or an infinity in an array: one sum, which takes less time than a comparison each."""
    return jnp.isnan(jnp.sum(0 * (jnp.real(x) + jnp.imag(x))))
