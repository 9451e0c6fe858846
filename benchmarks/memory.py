"""Peak temporaries of value and gradient, in what XLA compiled, beside jax.numpy.linalg's, by XLA's own analysis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import costs
from benchmarks.selection import chosen

N = 256


def run(only: Sequence[str] | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """One row a function of matrices of order N: the temporaries of both sides in matrices of the input's size.

    Nothing is timed, so that there is no quicker way.
    """
    rows = []
    pairs = costs.pairs(N)
    for name in chosen(pairs, only):
        ours, theirs, args = pairs[name]
        unit = sum(x.nbytes for x in args) / len(args)
        used = {side: temporaries(f, args) / unit for side, f in (("linalgx", ours), ("jnp", theirs))}
        rows.append({"operation": name, **used, "jnp/linalgx": used["jnp"] / max(used["linalgx"], 1 / N)})
    return rows


def temporaries(function: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """Bytes beyond arguments and results of the compiled value and gradient of half the sum of squares."""
    program = jax.jit(jax.value_and_grad(half_squares(function), argnums=tuple(range(len(args)))))
    return program.lower(*args).compile().memory_analysis().temp_size_in_bytes


def half_squares(function: Callable[..., Any]) -> Callable[..., jax.Array]:
    """Half the sum of |x|^2 over all inexact outputs."""

    def scalar(*args: Any) -> jax.Array:
        leaves = [x for x in jax.tree.leaves(function(*args)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return sum(0.5 * jnp.sum(jnp.real(x) ** 2 + jnp.imag(x) ** 2) for x in leaves)

    return scalar
