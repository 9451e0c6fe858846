"""What an eager call and the import cost beside jax.numpy.linalg's."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from rich.progress import track

import linalgx
from benchmarks.selection import chosen
from benchmarks.timing import Effort, interleaved

EFFORT = Effort(rounds=41, budget=0.0, sample=0.004)


def run(only: Sequence[str] | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """Eager microseconds a call of 3 x 3 matrices, interleaved; then the import, in seconds."""
    A = jnp.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    b = jnp.ones(3)
    cases: dict[str, tuple[Any, ...]] = {
        name: (A,) for name in ("cholesky", "inv", "det", "eigh", "svd", "qr", "slogdet")
    }
    cases |= {"solve": (A, b), "norm": (A,), "matmul": (A, A), "pinv": (A,)}
    kept = chosen([*cases, "import"], only)
    effort = dataclasses.replace(EFFORT, rounds=11) if quick else EFFORT
    eager = [name for name in cases if name in kept]
    rows = [_eager(name, cases[name], effort) for name in track(eager, description="eager calls")]
    return [*rows, _import()] if "import" in kept else rows


def _eager(name: str, args: tuple[Any, ...], effort: Effort) -> dict[str, Any]:
    sides = {
        "linalgx": lambda: getattr(linalgx, name)(*args),
        "jax": lambda: getattr(jnp.linalg, name)(*args),
    }
    times = interleaved(sides, effort)
    ours, theirs = (times[side].median for side in sides)
    return {"what": f"{name}, us a call", "linalgx": 1e6 * ours, "jax": 1e6 * theirs, "ratio": ours / theirs}


def _import() -> dict[str, Any]:
    """Seconds to import jax.numpy and jax.scipy.linalg, with and without linalgx, each in a fresh process."""
    program = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    imports = {"jax": "import jax.numpy", "linalgx": "import jax.numpy, linalgx"}
    times: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(7):
        for name, statement in imports.items():
            ran = subprocess.run([sys.executable, "-c", program.format(statement)], capture_output=True, check=True)
            times[name].append(float(ran.stdout))
    ours, theirs = (statistics.median(times[name]) for name in ("linalgx", "jax"))
    return {"what": "import, s", "linalgx": ours, "jax": theirs, "ratio": ours / theirs}
