"""What an eager call and the import cost beside jax.numpy.linalg's."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from rich.progress import track

import linalgx

ROUNDS, CALLS = 41, 200


def run() -> list[dict[str, Any]]:
    """Eager microseconds a call of 3 x 3 matrices, interleaved; then the import, in seconds."""
    A = jnp.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    b = jnp.ones(3)
    cases: dict[str, tuple[Any, ...]] = {
        name: (A,) for name in ("cholesky", "inv", "det", "eigh", "svd", "qr", "slogdet")
    }
    cases |= {"solve": (A, b), "norm": (A,), "matmul": (A, A), "pinv": (A,)}
    rows = [_eager(name, args) for name, args in track(cases.items(), description="eager calls")]
    return [*rows, _import()]


def _eager(name: str, args: tuple[Any, ...]) -> dict[str, Any]:
    ours, theirs = _interleaved(lambda: getattr(linalgx, name)(*args), lambda: getattr(jnp.linalg, name)(*args))
    return {"what": f"{name}, us a call", "linalgx": 1e6 * ours, "jax": 1e6 * theirs, "ratio": ours / theirs}


def _interleaved(*sides: Callable[[], Any]) -> list[float]:
    """The median seconds a call of each side, a few calls of each in turn."""
    for side in sides:
        jax.block_until_ready(side())
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(ROUNDS):
        for side, record in zip(sides, times, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                jax.block_until_ready(side())
            record.append((time.perf_counter() - start) / CALLS)
    return [statistics.median(record) for record in times]


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
