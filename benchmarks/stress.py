"""Batched LAPACK calls on all cores, again and again: which programs hang, ours and jax.numpy.linalg's."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import report, small
from benchmarks.isolated import Beat, Limits, Worker
from benchmarks.libraries import Library, library
from benchmarks.selection import chosen
from linalgx._kernels.select import prefer

SIZES = ((4, 100_000), (16, 5_000), (32, 1_000))
CALLS, QUICK_CALLS = 60, 15
PACKAGES = ("linalgx", "jnp")

Row = dict[str, Any]


def _sum(function: Callable[..., Any], la: Library) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(function(la, *args))


def _positive(A: jax.Array) -> jax.Array:
    return A @ jnp.swapaxes(A, -1, -2)


def _of_few_digits(A: jax.Array) -> jax.Array:
    """Random matrices, of which some are close to a singular one."""
    return A - A.shape[-1] * jnp.broadcast_to(jnp.eye(A.shape[-1]), A.shape)


GRADIENTS: dict[str, Callable[..., Any]] = {
    "solve": lambda la, A, b: la.solve(A, b),
    "inv": lambda la, A, b: la.inv(A),
    "cholesky, solve": lambda la, A, b: la.solve(la.cholesky(_positive(A)), b),
    "cholesky_solve": lambda la, A, b: la.cholesky_solve(la.cholesky(_positive(A)), b),
    "lstsq": lambda la, A, b: la.lstsq(A, b),
    "lstsq, few digits": lambda la, A, b: la.lstsq(_of_few_digits(A), b),
    "pinv": lambda la, A, b: la.pinv(A),
    "pinv, few digits": lambda la, A, b: la.pinv(_of_few_digits(A)),
    "matrix_exp": lambda la, A, b: la.matrix_exp(A),
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
        """All calls, counted from 1 after the compilation; none in the second attempt, after one of them hung."""
        if skip:
            return
        rng = np.random.default_rng(0)
        A = jnp.asarray(rng.standard_normal((self.batch, self.n, self.n)) + self.n * np.eye(self.n))
        b = jnp.asarray(rng.standard_normal((self.batch, self.n, 1)))
        scalar = _sum(GRADIENTS[self.program], library(self.package))
        with prefer("lapack"):
            beat("0", compiling=True)
            program = jax.jit(jax.grad(scalar, argnums=(0, 1))).lower(A, b).compile()
            for i in range(self.calls):
                beat(str(i + 1))
                jax.block_until_ready(program(A, b))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CALLS} calls of each program, not {CALLS}")
    parser.add_argument("--only", action="append", metavar="NAME", help="programs whose name has this in it")
    parser.add_argument("--package", nargs="+", choices=PACKAGES, default=PACKAGES, help="whose programs run")
    runs = "how often all of it runs, each time in a new process, but for programs that hung; an interrupt ends it"
    parser.add_argument("--runs", type=int, default=1, metavar="N", help=runs)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a call hangs")


def main(options: argparse.Namespace) -> None:
    """Run all programs, print, and write what ``--out`` asks for."""
    calls = QUICK_CALLS if options.quick else CALLS
    tasks = [
        Stress(package, name, n, batch, calls)
        for name, (n, batch), package in itertools.product(chosen(GRADIENTS, options.only), SIZES, options.package)
    ]
    console = Console()
    limits = Limits(running=options.limit, compiling=options.limit)
    rows = [_row(task) for task in tasks]
    with contextlib.suppress(KeyboardInterrupt):
        attempts = track(_attempts(tasks, options.runs, limits), "programs", len(tasks) * options.runs, console=console)
        for place, worker in attempts:
            rows[place] = run_again(rows[place], tasks[place], worker)
    report.print_table(f"gradients, {calls} calls of each in a run", rows)
    if options.out:
        written = [report.write(options.out, "stress", rows), *small.plots("stress", rows, options.out, console)]
        console.print("written: " + ", ".join(str(path) for path in written))


def _attempts(tasks: Sequence[Stress], runs: int, limits: Limits) -> Iterator[tuple[int, Worker]]:
    """The place of each task and the process for it, a new one in each run: a run of each package, then all others."""
    for package in [*PACKAGES, *(package for package in PACKAGES for _ in range(runs - 1))]:
        with Worker(limits) as worker:
            for place, task in enumerate(tasks):
                if task.package == package:
                    yield place, worker


def _row(task: Stress) -> Row:
    """What is known of a program before it runs."""
    row = {"package": task.package, "program": task.program, "n": task.n, "batch": task.batch}
    return row | {"runs": 0, "calls": 0, "failed": None}


def run_again(row: Row, task: Stress, worker: Worker) -> Row:
    """The row with the calls that came back in one more run; a program that hung stays as it is."""
    if row["failed"]:
        return row
    run = row["runs"] + 1
    _, failed = worker.run(task)
    if not failed:
        return row | {"runs": run, "calls": row["calls"] + task.calls}
    call, reason = next(iter(failed.items()))
    came_back = row["calls"] + max(int(call) - 1, 0)
    return row | {"runs": run, "calls": came_back, "failed": f"call {call} of run {run} {reason}"}
