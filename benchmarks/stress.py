"""Batched LAPACK calls on all cores, again and again: which programs hang, ours and jax.numpy.linalg's."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

import linalgx
from benchmarks import report
from benchmarks.isolated import Beat, Limits, Worker
from benchmarks.selection import chosen
from linalgx._kernels.select import prefer

SIZES = ((4, 100_000), (16, 5_000), (32, 1_000))
CALLS, QUICK_CALLS = 60, 15


def _sum(function: Callable[..., Any], module: Any) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(function(module, *args))


def _positive(A: jax.Array) -> jax.Array:
    return A @ jnp.swapaxes(A, -1, -2)


def _of_few_digits(A: jax.Array) -> jax.Array:
    """Random matrices, of which some are close to a singular one."""
    return A - A.shape[-1] * jnp.broadcast_to(jnp.eye(A.shape[-1]), A.shape)


GRADIENTS: dict[str, Callable[..., Any]] = {
    "solve": lambda la, A, b: la.solve(A, b),
    "inv": lambda la, A, b: la.inv(A),
    "cholesky, solve": lambda la, A, b: la.solve(la.cholesky(_positive(A)), b),
    "pinv": lambda la, A, b: la.pinv(A),
    "pinv, few digits": lambda la, A, b: la.pinv(_of_few_digits(A)),
    "lstsq, few digits": lambda la, A, b: jax.vmap(lambda A, b: la.lstsq(A, b)[0])(_of_few_digits(A), b),
    "det, singular": lambda la, A, b: la.det(A.at[:, 0].set(A[:, 1])),
    "eigvals": lambda la, A, b: jnp.abs(la.eigvals(A)) ** 2,
    "slogdet": lambda la, A, b: la.slogdet(A)[1],
    "two independent solves": lambda la, A, b: la.solve(A, b) + la.solve(A[::-1], b),
}
"""Programs of (batch, n, n) and (batch, n, 1), of which the gradient runs."""


@dataclasses.dataclass(frozen=True)
class Stress:
    """The calls of one program; LAPACK runs at every order."""

    package: str
    program: str
    n: int
    batch: int
    calls: int

    def __call__(self, beat: Beat, skip: frozenset[str]) -> None:
        """All calls; none in the second attempt, after one of them hung."""
        if skip:
            return
        rng = np.random.default_rng(0)
        A = jnp.asarray(rng.standard_normal((self.batch, self.n, self.n)) + self.n * np.eye(self.n))
        b = jnp.asarray(rng.standard_normal((self.batch, self.n, 1)))
        module = linalgx if self.package == "linalgx" else jnp.linalg
        with prefer("lapack"):
            beat("compilation", compiling=True)
            program = jax.jit(jax.grad(_sum(GRADIENTS[self.program], module), argnums=(0, 1))).lower(A, b).compile()
            for i in range(self.calls):
                beat(f"call {i + 1}")
                jax.block_until_ready(program(A, b))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CALLS} calls of each program, not {CALLS}")
    parser.add_argument("--only", action="append", metavar="NAME", help="programs whose name has this in it")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a call hangs")


def main(options: argparse.Namespace) -> None:
    """Run all programs, print, and write what ``--out`` asks for."""
    calls = QUICK_CALLS if options.quick else CALLS
    programs = chosen(GRADIENTS, options.only)
    tasks = [
        Stress(library, name, n, batch, calls)
        for name, (n, batch), library in itertools.product(programs, SIZES, ("linalgx", "jnp"))
    ]
    console = Console()
    with Worker(Limits(running=options.limit, compiling=options.limit)) as worker:
        rows = [run_one(task, worker) for task in track(tasks, console=console, description="programs")]
    report.print_table(f"gradients, {calls} calls of each", rows)
    if options.out:
        console.print(f"written: {report.write(options.out, 'stress', rows)}")


def run_one(task: Stress, worker: Worker) -> dict[str, Any]:
    """The row of one program: whether all calls came back, or which did not."""
    _, failed = worker.run(task)
    row = {"package": task.package, "program": task.program, "n": task.n, "batch": task.batch}
    return row | {"outcome": ", ".join(f"{call} {what}" for call, what in failed.items()) or "all came back"}
