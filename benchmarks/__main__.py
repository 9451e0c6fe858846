"""``python -m benchmarks NAME [--out DIR]``: measure, print a table, and with ``--out`` write it there as JSON."""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import costs, overhead

BENCHMARKS = {"costs": costs, "overhead": overhead}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS, help="; ".join(f"{k}: {m.__doc__}" for k, m in BENCHMARKS.items()))
    parser.add_argument("--out", type=pathlib.Path, help="folder for the JSON file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = BENCHMARKS[options.name].run()
    print_table(options.name, rows)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        report = {"benchmark": options.name, "machine": machine(), "rows": rows}
        (options.out / f"{options.name}.json").write_text(json.dumps(report, indent=1) + "\n")


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """The rows, dictionaries with the same keys, as a table."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()))
    Console().print(table)


def machine() -> dict[str, str]:
    """What a figure must name to be compared."""
    return {
        "processor": platform.processor() or platform.machine(),
        "devices": ", ".join(str(device) for device in jax.devices()),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    main()
