"""The plots of the benchmarks: ns per matrix against n, a panel for each case; or bars of ratios."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.libraries import AT_MOST
from benchmarks.timing import geometric_mean

Row = dict[str, Any]
COLUMNS = 7
STYLES: dict[str, dict[str, Any]] = {
    "linalgx": {"color": "#c1272d", "linewidth": 2.4, "marker": "o", "markersize": 4.5, "zorder": 5},
    "linalgx, batch last": {"color": "#f28c28", "linewidth": 2.4, "marker": "o", "markersize": 4.5, "zorder": 4},
    "jnp": {"color": "#0072b2", "marker": "s"},
    "torch": {"color": "#7b4fa3", "marker": "^"},
    "numpy": {"color": "#2e8b57", "marker": "v"},
    "scipy": {"color": "#8c8c40", "marker": "D"},
    "copy": {"color": "0.35", "linestyle": "--", "linewidth": 1.2, "marker": ""},
}
LABELS = {
    "jnp": "jax.numpy / jax.scipy",
    "scipy": "scipy (else above the panel)",
    "copy": "copy of the input (the limit)",
}
CURVES = {
    "small": {
        "small": (("operation",), "Many small matrices: operations"),
        "small_gradients": (("operation gradient",), "Many small matrices: value and gradient of operations"),
        "small_pipelines": (("pipeline", "pipeline gradient"), "Many small matrices: pipelines; value, and gradient"),
    },
    "classic": {"classic": (("operation",), "The square root of the determinant of a million matrix elements")},
}
BARS = {
    "general": (
        ("jnp/linalgx", "torch/linalgx", "scipy/linalgx"),
        "Times over ours, geometric means (longer: linalgx is faster)",
    ),
    "memory": (("jnp/linalgx",), "Peak temporaries of value and gradient over ours (longer: linalgx takes less)"),
    "compile": (
        ("value, jnp/linalgx", "gradient, jnp/linalgx"),
        "Seconds to compile over ours (longer: we are faster)",
    ),
}
COLORS = {
    "torch/linalgx": STYLES["torch"]["color"],
    "scipy/linalgx": STYLES["scipy"]["color"],
    "gradient, jnp/linalgx": STYLES["torch"]["color"],
}


def write(benchmark: str, rows: Sequence[Row], out: pathlib.Path) -> list[pathlib.Path]:
    """The pictures of a benchmark, of what was measured."""
    figures: dict[str, Figure] = {}
    if benchmark in BARS:
        figures[benchmark] = bars(rows, *BARS[benchmark])
    if benchmark == "stress":
        figures[benchmark] = calls(rows)
    for name, (groups, title) in CURVES.get(benchmark, {}).items():
        part = [row for row in rows if row["group"] in groups]
        if part:
            figures[name] = draw(part, title)
    paths = [out / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=130)
    return paths


def bars(rows: Sequence[Row], ratios: Sequence[str], title: str) -> Figure:
    """A bar for each ratio of each operation, the geometric mean of its rows; a panel for values, one for gradients."""
    label = "case" if "case" in rows[0] else "operation"
    groups = list(dict.fromkeys(row.get("group", "") for row in rows))
    rows = [row | {label: row[label].removeprefix("grad ")} for row in rows]
    names = list(dict.fromkeys(row[label] for row in rows))[::-1]
    figure, panels = _bar_panels(groups, names)
    for axis, group in zip(panels, groups, strict=True):
        for ratio, places in _places(ratios, names):
            values = [_mean(rows, label, name, group, ratio) for name in names]
            color = COLORS.get(ratio, STYLES["jnp"]["color"])
            axis.barh(places, [x - 1 for x in values], 0.72 / len(ratios), left=1, color=color, label=ratio)
        axis.axvline(1, color="0.2", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(title)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(ratios), frameon=False)
    return figure


def calls(rows: Sequence[Row]) -> Figure:
    """A bar for each program and package, as long as calls came back, and a cross where one hung; a panel an order."""
    orders = list(dict.fromkeys(row["n"] for row in rows))
    names = list(dict.fromkeys(row["program"] for row in rows))[::-1]
    packages = list(dict.fromkeys(row["package"] for row in rows))
    figure, panels = _bar_panels([f"n = {n}" for n in orders], names)
    for axis, n in zip(panels, orders, strict=True):
        for package, places in _places(packages, names):
            known = {row["program"]: row for row in rows if (row["n"], row["package"]) == (n, package)}
            came_back = [known[name]["calls"] for name in names]
            label = LABELS.get(package, package)
            axis.barh(places, came_back, 0.72 / len(packages), color=STYLES[package]["color"], label=label)
            hung = [i for i, name in enumerate(names) if known[name]["failed"]]
            if hung:
                axis.plot([came_back[i] for i in hung], [places[i] for i in hung], "kx", clip_on=False)
    figure.suptitle("Calls that came back, of gradients with batched LAPACK calls (a cross: the next call hung)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(packages), frameon=False)
    return figure


def _bar_panels(titles: Sequence[str], names: Sequence[str]) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a panel for each title, and in each a line for each name."""
    figure = Figure(figsize=(5.5 * len(titles) + 1, 0.32 * len(names) + 1.8), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False, sharey=True)[0]
    for axis, title in zip(panels, titles, strict=True):
        axis.set_yticks(range(len(names)), labels=names)
        axis.set_title(title)
        axis.grid(True, axis="x", which="major", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _places(bars: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """Each kind of bar, and where those of all names lie: side by side, centred at 0, 1, 2, ..."""
    for k, bar in enumerate(bars):
        yield bar, [i + 0.8 / len(bars) * (0.5 * (len(bars) - 1) - k) for i in range(len(names))]


def _mean(rows: Sequence[Row], label: str, name: str, group: str, ratio: str) -> float:
    known = [row[ratio] for row in rows if (row[label], row.get("group", "")) == (name, group) and row.get(ratio)]
    return geometric_mean(known) if known else 1.0


def draw(rows: Sequence[Row], title: str) -> Figure:
    """A row of panels after the other for each dtype, with one legend."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    height = math.ceil(len(cases) / COLUMNS)
    columns = math.ceil(len(cases) / height)
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 10, "lines.linewidth": 1.3, "lines.markersize": 4}):
        figure = Figure(figsize=(max(2.5 * columns, 6.0), 2.35 * height * len(dtypes) + 1.1), layout="constrained")
        parts = figure.subfigures(len(dtypes), 1, squeeze=False)[:, 0]
        limits = _limits(rows)
        for part, dtype in zip(parts, dtypes, strict=True):
            part.suptitle(dtype, fontsize=11, fontweight="bold")
            axes = part.subplots(height, columns, squeeze=False, sharex=True, sharey=True)
            for i, axis in enumerate(axes.flat):
                if i < len(cases):
                    _panel(axis, [row for row in rows if row["case"] == cases[i] and row["dtype"] == dtype], cases[i])
                    axis.set_ylim(limits)
                else:
                    axis.set_visible(False)
            for axis in axes[:, 0]:
                axis.set_ylabel("ns per matrix")
            for i in range(columns):
                _lowest(axes[:, i]).set_xlabel("n")
                _lowest(axes[:, i]).tick_params(labelbottom=True)
        _legend(figure, rows, title, wide=columns > 3)
    return figure


def _lowest(axes: Sequence[Axes]) -> Axes:
    return [axis for axis in axes if axis.get_visible()][-1]


def _panel(axis: Axes, rows: Sequence[Row], title: str) -> None:
    """The sides of one case; a side that failed at some n has no point there."""
    axis.set_title(title)
    axis.set_xscale("log")
    axis.set_yscale("log")
    rows = sorted(rows, key=lambda row: row["n"])
    for side, style in STYLES.items():
        points = [(row["n"], row["times"][side]["ns"]) for row in rows if side in row["times"]]
        if points:
            axis.plot(*zip(*points, strict=True), **style)
    for row in rows:
        if row["failed"].get("jnp") == "hangs":
            axis.plot(row["n"], 0.96, "x", color=STYLES["jnp"]["color"], transform=axis.get_xaxis_transform())
    orders = sorted({row["n"] for row in rows})
    orders = list(range(2, 9)) if orders[-1] <= 8 else orders
    axis.set_xlim(orders[0] / 1.08, orders[-1] * 1.08)
    axis.set_xticks(orders, labels=[str(n) for n in orders])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(numticks=12))
    axis.grid(True, which="major", color="0.9", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The same for all panels, with room for all sides but those that call Python for each matrix."""
    times = [(side, time["ns"]) for row in rows for side, time in row["times"].items()]
    values = [ns for side, ns in times if side not in AT_MOST]
    return (min(values) / 1.6, max(values) * 2.5) if values else (1.0, 10.0)


def _legend(figure: Figure, rows: Sequence[Row], title: str, wide: bool) -> None:
    """The title, and the names of the sides that were measured, below the panels."""
    figure.suptitle(title, fontsize=14, fontweight="bold")
    sides = [side for side in STYLES if any(side in row["times"] for row in rows)]
    lines = [matplotlib.lines.Line2D([], [], **STYLES[side]) for side in sides]
    labels = [LABELS.get(side, side) for side in sides]
    if any(row["failed"].get("jnp") == "hangs" for row in rows):
        lines.append(matplotlib.lines.Line2D([], [], color=STYLES["jnp"]["color"], marker="x", linestyle=""))
        labels.append("jax.numpy hangs")
    columns = len(lines) if wide else 3
    figure.legend(lines, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
