"""Seconds to trace, lower and compile each function and its value and gradient, beside jax.numpy.linalg's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import jax
from rich.progress import track

from benchmarks import costs
from benchmarks.memory import half_squares
from benchmarks.selection import chosen
from benchmarks.timing import compiled

ROUNDS = 3


def run(only: Sequence[str] | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """One row a function: medians of a few compilations, both sides in turn, nothing kept from one to the next."""
    rows = []
    pairs = costs.pairs()
    for name in track(chosen(pairs, only), description="compilations"):
        ours, theirs, args = pairs[name]
        row: dict[str, Any] = {"operation": name}
        for what, wrap in (("value", lambda f: f), ("gradient", _gradient(len(args)))):
            seconds: dict[str, list[float]] = {"linalgx": [], "jnp": []}
            for _ in range(1 if quick else ROUNDS):
                for side, function in (("linalgx", ours), ("jnp", theirs)):
                    jax.clear_caches()
                    seconds[side].append(compiled(wrap(function), *args)[1])
            medians = {side: statistics.median(samples) for side, samples in seconds.items()}
            row |= {f"{what}, {side} s": median for side, median in medians.items()}
            row[f"{what}, jnp/linalgx"] = medians["jnp"] / medians["linalgx"]
        rows.append(row)
    return rows


def _gradient(arguments: int) -> Any:
    return lambda function: jax.value_and_grad(half_squares(function), argnums=tuple(range(arguments)))
