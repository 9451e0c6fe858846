"""What a benchmark leaves behind: a table in the terminal, and a JSON file that names machine and versions."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

import linalgx

LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "torch")


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as a table, whose columns are the keys of all of them in the order of their first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        text = isinstance(rows[0].get(column), str)
        table.add_column(column, justify="left" if text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    # a table that is too wide for the terminal is better broken by the terminal than squeezed
    console = Console()
    width = console.measure(table, options=console.options.update(width=10_000)).maximum
    Console(width=max(console.width, width)).print(table)


def _cell(x: Any) -> str:
    if x is None:
        return "-"
    if not isinstance(x, float):
        return str(x)
    return f"{x:.3g}" if not math.isfinite(x) or abs(x) < 1000 else f"{x:.0f}"


def write(out: pathlib.Path, name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> pathlib.Path:
    """``name.json`` in the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    report = {"benchmark": name, "machine": machine(), **more, "rows": rows}
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """What a figure must name to be compared."""
    return {
        "processor": processor(),
        "cores": cores(),
        "devices": ", ".join(str(device) for device in jax.devices()),
        "python": platform.python_version(),
        **versions(),
    }


def processor() -> str:
    """The model of the processor where the system tells it, else its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    """The version of each library; None if it is not installed."""
    found: dict[str, str | None] = {"linalgx": linalgx.__version__, **dict.fromkeys(LIBRARIES)}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
