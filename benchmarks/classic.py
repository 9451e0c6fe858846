"""The classic comparison: the square root of the determinant against the Cholesky factor, over n and batch."""

from __future__ import annotations

import argparse
import dataclasses
import itertools

from rich.console import Console

from benchmarks import cases, report, small
from benchmarks.cases import Case, Function
from benchmarks.isolated import Limits
from benchmarks.libraries import PEERS, measurable
from benchmarks.selection import chosen, name_skipped
from benchmarks.timing import usual_effort

SIZES = (2, 4, 8, 16, 32, 64)
ELEMENTS = (1_000, 30_000, 1_000_000)

FUNCTIONS: dict[str, Function] = {
    "sqrt det": Function(lambda la, A: la.det(A) ** 0.5, cases.OPERATIONS["cholesky"].inputs),
    "product of the Cholesky diagonal": Function(
        lambda la, A: la.cholesky(A).diagonal(0, -2, -1).prod(-1), cases.OPERATIONS["cholesky"].inputs
    ),
    "cholesky": cases.OPERATIONS["cholesky"],
}
"""The first two are the same number."""

BATCHED_PEERS = tuple(peer for peer in PEERS if peer != "scipy")


@dataclasses.dataclass(frozen=True)
class ClassicCase(Case):
    """A function of FUNCTIONS at one size and number of elements."""

    @property
    def _functions(self) -> Function:
        return FUNCTIONS[self.function]

    def side_names(self) -> list[str]:
        """Linalgx and the peers that can be measured and take batches."""
        return ["linalgx", *(peer for peer in BATCHED_PEERS if measurable(peer)), "copy"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--quick", action="store_true", help="n up to 8, and fewer rounds")
    parser.add_argument("--only", action="append", metavar="NAME", help="functions whose name has this in it")


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write what ``--out`` asks for."""
    console = Console()
    skipped = name_skipped(BATCHED_PEERS, console)
    effort = usual_effort(options.quick)
    sizes = [n for n in SIZES if n <= 8 or not options.quick]
    selected = [
        ClassicCase("operation", name, n, "float64", elements, effort)
        for name, elements, n in itertools.product(chosen(FUNCTIONS, options.only), ELEMENTS, sizes)
    ]
    rows = small.measure(selected, Limits(), console)
    report.print_table(
        "ns per matrix, ratios of medians", [small.table_row(row) | {"batch": row["batch"]} for row in rows]
    )
    if options.out:
        written = [report.write(options.out, "classic", rows, skipped=skipped)]
        largest = [row for row, case in zip(rows, selected, strict=False) if case.elements == ELEMENTS[-1]]
        written += small.plots("classic", largest, options.out, console)
        console.print("written: " + ", ".join(str(path) for path in written))
