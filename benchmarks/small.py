"""Many small matrices: operations, pipelines and their gradients beside jax.numpy, torch, numpy and scipy."""

from __future__ import annotations

import argparse
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import isolated, report
from benchmarks.cases import GROUPS, OPERATIONS, PIPELINES, Case
from benchmarks.isolated import Limits, Worker, Workers
from benchmarks.libraries import PEERS
from benchmarks.selection import chosen, name_skipped
from benchmarks.timing import Effort, geometric_mean, usual_effort

DTYPES = ("float32", "float64")
RANGES = ((2, 4), (5, 8), (9, 12))
QUICK_SIZES = (2, 3, 4, 8)

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--quick", action="store_true", help=f"n in {QUICK_SIZES} only, and fewer rounds")
    parser.add_argument("--only", action="append", metavar="NAME", help="cases whose name has this in it (repeatable)")
    parser.add_argument("--n", type=int, nargs="+", help="orders of the matrices; 2 to 8 if not given")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--elements", type=int, default=1_000_000, help="matrix elements in a call (1e6)")
    isolated.add_arguments(parser)


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write what ``--out`` asks for."""
    cases = list(selected(options))
    if not cases:
        raise SystemExit("no case has one of these orders")
    console = Console()
    skipped = name_skipped(PEERS, console)
    rows = measure(cases, Limits(running=options.limit), console, options.jobs)
    summary = summarise(rows)
    show(rows, summary)
    if options.out:
        written = [report.write(options.out, "small", rows, skipped=skipped, summary=summary)]
        written += plots("small", rows, options.out, console)
        console.print("written: " + ", ".join(str(path) for path in written))


def names() -> list[str]:
    """The names of all cases, as ``--only`` takes them."""
    return list(dict.fromkeys(case.name for case in _all_cases(range(2, 9), DTYPES, 1, Effort())))


def selected(options: argparse.Namespace) -> Iterable[Case]:
    """The cases that the options ask for."""
    sizes = options.n or (QUICK_SIZES if options.quick else range(2, 9))
    effort = usual_effort(options.quick)
    kept = chosen(names(), options.only)
    for case in _all_cases(sizes, options.dtype, options.elements, effort):
        if case.name in kept:
            yield case


def _all_cases(sizes: Iterable[int], dtypes: Iterable[str], elements: int, effort: Effort) -> Iterable[Case]:
    for group in GROUPS:
        functions = PIPELINES if group.startswith("pipeline") else OPERATIONS
        for (name, function), dtype, n in itertools.product(functions.items(), dtypes, sizes):
            if n in function.sizes:
                yield Case(group, name, n, dtype, elements, effort)


def measure(cases: Sequence[Case], limits: Limits, console: Console, jobs: int = 1) -> list[Row]:
    """One row a case; what was measured until then if the user interrupts."""
    rows: dict[int, Row] = {}
    with Workers(limits, jobs) as workers, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(cases))
        try:
            for place, row in workers.map(measure_one, cases):
                rows[place] = row
                name = f"{row['case']}, n = {row['n']}, {row['dtype']}"
                progress.update(bar, description=name, advance=1)
                for side, reason in row["failed"].items():
                    console.print(f"{name}: {side} {reason}", highlight=False)
        except KeyboardInterrupt:
            console.print(f"interrupted: {len(rows)} of {len(cases)} cases were measured")
    return [rows[place] for place in sorted(rows)]


def measure_one(case: Case, worker: Worker) -> Row:
    """The times of all sides, and the ratios of the peers' medians to linalgx's: larger than 1 where it is faster."""
    try:
        result, failed = worker.run(case)
    except RuntimeError as error:
        result, failed = {"times": {}, "errors": {}}, {"all": str(error).strip().splitlines()[-1]}
    times = result["times"]
    row = {"group": case.group, "case": case.name, "dtype": case.dtype, "n": case.n, "batch": case.batch}
    return row | {"times": times, "failed": failed | result["errors"]} | ratios(times)


def ratios(times: dict[str, Row]) -> Row:
    """Times of jnp and of the best peer in those of linalgx, and who is the best; None where one is not known."""
    found: Row = dict.fromkeys(("jnp/linalgx", "jnp/batch last", "best/linalgx", "best peer"))
    peers = {peer: times[peer]["ns"] for peer in PEERS if peer in times}
    for key, side in (("jnp/linalgx", "linalgx"), ("jnp/batch last", "linalgx, batch last")):
        if "jnp" in peers and side in times:
            found[key] = peers["jnp"] / times[side]["ns"]
    if peers and "linalgx" in times:
        best = min(peers, key=peers.__getitem__)
        found |= {"best/linalgx": peers[best] / times["linalgx"]["ns"], "best peer": best}
    return found


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Geometric means by group, dtype and range of n, with the smallest entry named and the failures counted."""
    lines = []
    for group, dtype, (low, high) in itertools.product(GROUPS, DTYPES, RANGES):
        part = [row for row in rows if row["group"] == group and row["dtype"] == dtype and low <= row["n"] <= high]
        if part:
            lines.append({"group": group, "dtype": dtype, "n": f"{low}-{high}"} | _summary_of(part))
    return lines


def _summary_of(rows: Sequence[Row]) -> Row:
    means = {key: _mean(rows, key) for key in ("jnp/linalgx", "jnp/batch last", "best/linalgx")}
    compile_s = {side: _mean_seconds(rows, side) for side in ("linalgx", "jnp")}
    worst = min((row for row in rows if row["best/linalgx"]), key=lambda row: row["best/linalgx"], default=None)
    named = f"{worst['best/linalgx']:.2f} {worst['case']}, n = {worst['n']}, {worst['best peer']}" if worst else "-"
    return {
        **means,
        "below 1": sum(row["best/linalgx"] < 1 for row in rows if row["best/linalgx"]),
        "cases": len(rows),
        "jnp failed": sum("jnp" in row["failed"] for row in rows),
        "linalgx failed": sum(side.startswith(("linalgx", "all")) for row in rows for side in row["failed"]),
        "linalgx compile s": compile_s["linalgx"],
        "jnp compile s": compile_s["jnp"],
        "smallest": named,
    }


def _mean(rows: Sequence[Row], key: str) -> float | None:
    known = [row[key] for row in rows if row[key]]
    return geometric_mean(known) if known else None


def _mean_seconds(rows: Sequence[Row], side: str) -> float | None:
    known = [row["times"][side]["compile_s"] for row in rows if side in row["times"]]
    return geometric_mean(known) if known else None


def show(rows: Sequence[Row], summary: Sequence[Row]) -> None:
    """A table for each group, then the summary."""
    for group in GROUPS:
        part = [table_row(row) for row in rows if row["group"] == group]
        if part:
            report.print_table(f"{group}: ns per matrix, ratios of medians", part)
    report.print_table("geometric means of the ratios (above 1: linalgx is faster)", summary)


def table_row(row: Row) -> Row:
    """The row with a column for each side: its ns per matrix, or what went wrong with it."""
    sides = Case(row["group"], "", row["n"], row["dtype"]).side_names()
    cells = {side: _cell(row, side) for side in sides}
    compiled = [side for side in sides if side.startswith(("linalgx", "jnp"))]
    seconds = {f"{side} s": row["times"].get(side, {}).get("compile_s") for side in compiled}
    keys = ("jnp/linalgx", "best/linalgx", "best peer") if row["group"] == "operation" else ("jnp/linalgx",)
    if row["group"].startswith("pipeline"):
        keys = ("jnp/linalgx", "jnp/batch last")
    return {key: row[key] for key in ("case", "dtype", "n")} | cells | {key: row[key] for key in keys} | seconds


def _cell(row: Row, side: str) -> float | str | None:
    if side in row["times"]:
        return row["times"][side]["ns"]
    return row["failed"][side].split(":")[0] if side in row["failed"] else None


def plots(benchmark: str, rows: Sequence[Row], out: pathlib.Path, console: Console) -> list[pathlib.Path]:
    """The plots of a benchmark, where matplotlib is installed."""
    try:
        from benchmarks import plot
    except ImportError:
        console.print("no plot: matplotlib is not installed")
        return []
    return plot.write(benchmark, rows, out)
