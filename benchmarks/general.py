"""The general path: single large matrices and batches of them, values and gradients, beside jax.numpy and torch.

Eigenvalues and singular values alone are measured beside SciPy's, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks import cases, isolated, report, small
from benchmarks.cases import Arrays, Case, Function
from benchmarks.isolated import Limits
from benchmarks.libraries import Library, eager, library, measurable, torch_gradient
from benchmarks.selection import chosen, name_skipped
from benchmarks.timing import Side, compiled, geometric_mean, usual_effort

SIZES = ((64, 1), (256, 1), (1024, 1), (2048, 1), (64, 64), (256, 16))
QUICK_SIZES = ((64, 1), (256, 1), (64, 16))
PEERS = ("jnp", "torch", "scipy")
VALUES_ONLY = ("eigvalsh", "svdvals")
"""What SciPy is measured at: LAPACK's drivers that compute no vectors."""

Row = dict[str, Any]


def _tall(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    """2n x n/2."""
    return (rng.standard_normal((batch, 2 * n, n // 2)),)


def _tall_and_column(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return *_tall(rng, batch, n), rng.standard_normal((batch, 2 * n, 1))


def _of_norm_one(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    """Entries so small that the largest eigenvalue is about 1."""
    return (rng.standard_normal((batch, n, n)) / np.sqrt(n),)


def _of_determinant_one(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    """The logarithm of |det| is about 0 for every n: that of a standard normal matrix is about n (log n - 1) / 2."""
    return (rng.standard_normal((batch, n, n)) / np.sqrt(n / np.e),)


def _triangle_and_columns(rng: np.random.Generator, batch: int, n: int) -> Arrays:
    return cases.triangle_and_column(rng, batch, n)[0], rng.standard_normal((batch, n, n))


OPERATIONS: dict[str, Function] = {
    name: cases.OPERATIONS[name]
    for name in """cholesky|solve, 1 column|solve, n columns|inv|slogdet|lu|qr|eigh|eigvalsh|svd|svdvals""".split("|")
} | {
    "det": Function(lambda la, A: la.det(A), _of_determinant_one),
    "solve_triangular, 1 column": cases.OPERATIONS["solve_triangular"],
    "solve_triangular, n columns": Function(lambda la, L, B: la.solve_triangular(L, B), _triangle_and_columns),
    "cholesky_solve, 1 column": Function(lambda la, L, b: la.cholesky_solve(L, b), cases.triangle_and_column),
    "lstsq": Function(lambda la, A, b: la.lstsq(A, b), _tall_and_column),
    "pinv": Function(lambda la, A: la.pinv(A), _tall),
    "matrix_exp": Function(lambda la, A: la.matrix_exp(A), _of_norm_one),
}


@dataclasses.dataclass(frozen=True)
class GeneralCase(Case):
    """A function of OPERATIONS at one size and dtype, of ``count`` matrices; one comes without a batch axis."""

    count: int = 1

    @property
    def batch(self) -> int:
        """The number of matrices."""
        return self.count

    @property
    def _functions(self) -> Function:
        return OPERATIONS[self.function]

    def side_names(self) -> list[str]:
        """Linalgx, and the peers that can be measured."""
        peers = PEERS if self.name in VALUES_ONLY else ("jnp", "torch")
        return ["linalgx", *(peer for peer in peers if measurable(peer))]

    def inputs(self) -> Arrays:
        """The arrays, the same in every run."""
        arrays = super().inputs()
        return tuple(x[0] for x in arrays) if self.count == 1 else arrays

    def _scalar(self, la: Library, function: Callable[..., Any]) -> Callable[..., Any]:
        """Half the sum of the squares of all outputs."""
        return lambda *args: sum(0.5 * (x * x).sum() for x in _leaves(self._functions.smooth(function(*args))))

    def side(self, name: str, arrays: Arrays) -> tuple[Side, float | None]:
        """One of the sides, and the seconds that it took to compile, if it was."""
        function = self._functions.function
        if name == "torch":
            if self.has_gradient:
                return torch_gradient(lambda la: self._scalar(la, lambda *args: function(la, *args)), arrays), None
            return eager(name, function, arrays), None
        if name == "scipy":
            return lambda: function(library(name), *arrays), None
        return compiled(self.function_of(library(name)), *map(jnp.asarray, arrays))


def _leaves(out: Any) -> Iterable[Any]:
    return out if isinstance(out, tuple | list) else [out]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--quick", action="store_true", help=f"(n, matrices) in {QUICK_SIZES} only")
    parser.add_argument("--only", action="append", metavar="NAME", help="cases whose name has this in it (repeatable)")
    parser.add_argument("--n", type=int, nargs="+", help="orders of the matrices, of those that are measured")
    parser.add_argument("--dtype", nargs="+", choices=small.DTYPES, default=small.DTYPES)
    isolated.add_arguments(parser)


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write what ``--out`` asks for."""
    console = Console()
    skipped = name_skipped(PEERS, console)
    kept = chosen((case.name for case in _all_cases(options)), options.only)
    selected = [case for case in _all_cases(options) if case.name in kept]
    if not selected:
        raise SystemExit("no case has one of these orders")
    measured = small.measure(selected, Limits(running=options.limit), console, options.jobs)
    rows = [with_peers(row) for row in measured]
    report.print_table("ns per matrix, ratios of medians", [_table_row(row) for row in rows])
    summary = summarise(rows)
    report.print_table("geometric means of the ratios (above 1: linalgx is faster)", summary)
    if options.out:
        written = [report.write(options.out, "general", rows, skipped=skipped, summary=summary)]
        written += small.plots("general", rows, options.out, console)
        console.print("written: " + ", ".join(str(path) for path in written))


def _all_cases(options: argparse.Namespace) -> Iterable[GeneralCase]:
    sizes = [(n, count) for n, count in (QUICK_SIZES if options.quick else SIZES) if n in (options.n or (n,))]
    groups = ("operation", "operation gradient")
    for group, name, dtype, (n, count) in itertools.product(groups, OPERATIONS, options.dtype, sizes):
        yield GeneralCase(group, name, n, dtype, effort=usual_effort(), count=count)


def with_peers(row: Row) -> Row:
    """The row with the ratios of the other peers, too."""
    ns = {side: time["ns"] for side, time in row["times"].items()}
    known = {peer: ns[peer] / ns["linalgx"] for peer in PEERS[1:] if {peer, "linalgx"} <= ns.keys()}
    return row | {f"{peer}/linalgx": known.get(peer) for peer in PEERS[1:]}


def _table_row(row: Row) -> Row:
    sides = {side: row["times"].get(side, {}).get("ns") or row["failed"].get(side) for side in ("linalgx", *PEERS)}
    return {key: row[key] for key in ("case", "dtype", "n", "batch")} | sides | {k: row[k] for k in RATIOS}


RATIOS = tuple(f"{peer}/linalgx" for peer in PEERS)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """For each group and dtype the geometric means, and the smallest entry by name."""
    lines = []
    for group, dtype in itertools.product(("operation", "operation gradient"), small.DTYPES):
        part = [row for row in rows if row["group"] == group and row["dtype"] == dtype]
        if not part:
            continue
        line: Row = {"group": group, "dtype": dtype}
        for key in RATIOS:
            known = [row for row in part if row[key]]
            line[key] = geometric_mean([row[key] for row in known]) if known else None
            worst = min(known, key=lambda row: row[key], default=None)
            line[f"smallest {key}"] = f"{worst[key]:.2f} {worst['case']}, n = {worst['n']}" if worst else "-"
        compile_s = [row["times"][side]["compile_s"] for side in ("linalgx",) for row in part if side in row["times"]]
        lines.append(line | {"compile s": statistics.median(compile_s) if compile_s else None})
    return lines
