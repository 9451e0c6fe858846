"""From which batch on the batch-minor kernels pay; rewrites the table of :mod:`linalgx._kernels.crossovers`.

What is measured is an operation under vmap in the middle of a pipeline. Before and after it the batch is the last axis,
or of matrices that are not small the first: where it lies there.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import pathlib
import re
import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

import linalgx
from benchmarks import isolated, report
from benchmarks.isolated import Beat, Limits, Worker, Workers
from benchmarks.timing import ON_GPU, Effort, compiled, interleaved
from linalgx._core.batch_minor import LARGEST, SMALL
from linalgx._core.operation import RULES, SmallKernel
from linalgx._kernels.select import prefer

DTYPES = ("float32", "float64", "complex64", "complex128")
ORDERS = (1, 2, 3, 4, 5, 6, 7, 8, 10, LARGEST)
KERNELS = ("batch_minor", "lapack")
LINE_LENGTH = 120


class Plan(NamedTuple):
    """What is measured on a platform.

    Attributes:
        batches: the time at others is a constant and a slope fitted to these. The small one is measured only if the
            answer may be far below the large one: half of the time goes into compiling.
        effort: how long.
        least: below, the batch-minor kernel never runs.
    """

    batches: tuple[int, ...]
    effort: Effort
    least: int


PLANS = {
    "cpu": Plan((100, 10_000), Effort(rounds=7, budget=0.1, sample=0.002), least=10),
    # smaller batches are other programs: see linalgx._core.entrywise
    "cuda": Plan((1_000, 300_000), ON_GPU, least=1_000),
}

BATCHES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
"""The batches at which the kernels are compared."""

GAIN, CALLS = 1.1, 1000
"""How much faster the batch-minor kernel must be, and the calls within which its compile time must be paid back."""

Row = dict[str, Any]
Smallest = dict[int, int | None]
Table = dict[str, dict[str, Smallest]]


# --- a call of a public function for every operation that may have a kernel


@dataclasses.dataclass(frozen=True)
class Call:
    """A function that runs one operation above all on one member of a batch, and its inputs (rng, batch, n, dtype)."""

    function: Callable[..., Any]
    inputs: Callable[[np.random.Generator, int, int, str], tuple[np.ndarray, ...]]


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)


def _general(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return (_gaussian(rng, (batch, n, n), dtype),)


def _two(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return _gaussian(rng, (batch, n, n), dtype), _gaussian(rng, (batch, n, n), dtype)


def _with_column(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return _gaussian(rng, (batch, n, n), dtype), _gaussian(rng, (batch, n, 1), dtype)


def _hermitian(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    (A,) = _general(rng, batch, n, dtype)
    return (A + A.conj().swapaxes(1, 2),)


def _positive(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    (A,) = _general(rng, batch, n, dtype)
    return ((np.matmul(A, A.conj().swapaxes(1, 2)) + n * np.eye(n)).astype(dtype),)


def _triangle(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    (A,) = _general(rng, batch, n, dtype)
    return ((np.tril(A) + 2 * n * np.eye(n)).astype(dtype),)


def _triangle_and_column(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return _triangle(rng, batch, n, dtype)[0], _gaussian(rng, (batch, n, 1), dtype)


def _factors_and_column(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """LU factors and pivots as of some matrix, and a right-hand side."""
    L, b = _triangle_and_column(rng, batch, n, dtype)
    pivots = np.arange(n) + np.floor(rng.random((batch, n)) * (n - np.arange(n)))
    return (L + L.swapaxes(1, 2)).astype(dtype), pivots.astype(np.int32), b


def _rows(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return (_gaussian(rng, (batch, n), dtype),)


def _tall(rng: np.random.Generator, batch: int, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return (_gaussian(rng, (batch, n, max(1, n - 1)), dtype),)


def _gradient(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Value and gradient of the sum of the real part, with respect to all arguments that have one."""

    def value_and_grad(*args: jax.Array) -> Any:
        smooth = tuple(i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.inexact))
        return jax.value_and_grad(lambda *args: jnp.sum(jnp.real(function(*args))), argnums=smooth)(*args)

    return value_and_grad


OPERATIONS: dict[str, Call] = {
    "cholesky": Call(lambda A: linalgx.cholesky(A), _positive),
    "solve_triangular": Call(lambda L, b: linalgx.solve_triangular(L, b, upper=False), _triangle_and_column),
    "cholesky_solve": Call(lambda L, b: linalgx.cholesky_solve(b, L), _triangle_and_column),
    "cholesky_inverse": Call(lambda L: linalgx.cholesky_inverse(L), _triangle),
    "lu_factor": Call(lambda A: tuple(linalgx.lu_factor(A)), _general),
    "lu_solve": Call(lambda LU, pivots, b: linalgx.lu_solve(LU, pivots, b), _factors_and_column),
    "solve": Call(lambda A, b: linalgx.solve(A, b), _with_column),
    "inv": Call(lambda A: linalgx.inv(A), _general),
    "det": Call(lambda A: linalgx.det(A), _general),
    "slogdet": Call(lambda A: tuple(linalgx.slogdet(A)), _general),
    "det_and_adjugate": Call(_gradient(lambda A: linalgx.det(A)), _general),
    "slogdet_and_inverse": Call(_gradient(lambda A: linalgx.slogdet(A)[1]), _general),
    "qr": Call(lambda A: tuple(linalgx.qr(A)), _general),
    "householder_qr": Call(lambda A: tuple(linalgx.qr(A, mode="complete")), _tall),
    "eigh": Call(lambda A: tuple(linalgx.eigh(A)), _hermitian),
    "eigvalsh": Call(lambda A: linalgx.eigvalsh(A), _hermitian),
    "svd": Call(lambda A: tuple(linalgx.svd(A)), _general),
    "svdvals": Call(lambda A: linalgx.svdvals(A), _general),
    "matrix_exp": Call(lambda A: linalgx.matrix_exp(A), _general),
    "matmul": Call(lambda A, B: linalgx.matmul(A, B), _two),
    "vector_norm": Call(lambda x: linalgx.vector_norm(x, axis=-1), _rows),
}


def with_kernel() -> list[str]:
    """The operations that have a batch-minor kernel with a line of its own in the table."""
    decided = {name for name, rules in RULES.items() if is_decided(name, rules.operation.small)}
    return [name for name in OPERATIONS if name in decided]


def is_decided(name: str, kernel: SmallKernel | None) -> bool:
    """Whether there is a kernel, and it does not run always, nor where that of another operation does."""
    return kernel is not None and getattr(kernel.selected, "args", ()) == (name,)


# --- measuring


@dataclasses.dataclass(frozen=True)
class Case:
    """Both kernels of one operation, at one order and dtype."""

    operation: str
    n: int
    dtype: str
    gradient: bool = False
    plan: Plan = PLANS["cpu"]

    def __call__(self, beat: Beat, skip: frozenset[str]) -> dict[str, Any]:
        """``times[kernel][batch]`` and ``compile_s[kernel]``, the largest batch first: often it decides alone."""
        found: dict[str, Any] = {"times": {kernel: {} for kernel in KERNELS}, "compile_s": dict.fromkeys(KERNELS)}
        _start_compiler()
        for batch in sorted(self.plan.batches, reverse=True) if not skip else ():
            for kernel, (time, compile_s) in self._at(batch, beat).items():
                found["times"][kernel][batch] = time
                found["compile_s"][kernel] = min(compile_s, found["compile_s"][kernel] or compile_s)
            smallest = smallest_batch(found, self.plan.least)
            if self.gradient or smallest is None or smallest >= batch / 4:
                break
        return found

    def _at(self, batch: int, beat: Beat) -> dict[str, tuple[float, float]]:
        """Of each kernel the seconds a call, the fewest (others on the machine only add), and those to compile."""
        call = OPERATIONS[self.operation]
        members = call.inputs(np.random.default_rng(0), batch, self.n, self.dtype)
        axis = -1 if self.n <= SMALL else 0
        arrays = [jnp.asarray(np.ascontiguousarray(np.moveaxis(x, 0, axis))) for x in members]
        sides, seconds = {}, {}
        for kernel in KERNELS:
            beat(kernel, compiling=True)
            with prefer(kernel):
                # a function of its own for each: what jax remembers of one that it traced would flatter the second
                function = jax.vmap(self._function(call), in_axes=axis, out_axes=axis)
                sides[kernel], seconds[kernel] = compiled(function, *arrays)
        beat(None)
        timings = interleaved(sides, self.plan.effort, before=beat)
        return {kernel: (timings[kernel].minimum, seconds[kernel]) for kernel in KERNELS}

    def _function(self, call: Call) -> Callable[..., Any]:
        if not self.gradient:
            return lambda *args: call.function(*args)
        return _gradient(lambda *args: sum(jnp.sum(jnp.real(x)) for x in jax.tree.leaves(call.function(*args))))


@functools.cache
def _start_compiler() -> None:
    """The first programs of a process take longer to compile, whichever they are."""
    for kernel in KERNELS:
        with prefer(kernel):
            jax.jit(lambda A: linalgx.cholesky(A) + 1).lower(jnp.stack([jnp.eye(2)] * 2)).compile()


def fit(times: Mapping[int, float]) -> tuple[float, float]:
    """The constant and the slope, neither negative, of the time as a function of the batch; relative errors count."""
    if len(times) == 1:
        ((batch, time),) = times.items()
        return 0.0, time / batch
    batches, seconds = (np.array(list(x), dtype=float) for x in (times.keys(), times.values()))
    slope, constant = np.polyfit(batches, seconds, 1, w=1 / seconds)
    if constant < 0:
        return 0.0, float(np.mean(seconds / batches))
    if slope < 0:
        return float(np.mean(seconds)), 0.0
    return float(constant), float(slope)


def smallest_batch(result: Mapping[str, Any], least: int = 0) -> int | None:
    """The rule: from this batch on the kernel is faster by GAIN and pays its compile time back in CALLS; or None."""
    times, compile_s = result["times"], result["compile_s"]
    if not times["batch_minor"] or not times["lapack"]:
        return None
    lines = {kernel: fit(times[kernel]) for kernel in KERNELS}
    extra = max(0.0, compile_s["batch_minor"] - compile_s["lapack"])
    found = None
    for batch in (batch for batch in reversed(BATCHES) if batch >= least):
        ours, theirs = (lines[kernel][0] + batch * lines[kernel][1] for kernel in KERNELS)
        if theirs < GAIN * ours or extra > CALLS * (theirs - ours):
            break
        found = batch
    return found


def measure(lines: Sequence[Sequence[Case]], limits: Limits, console: Console, jobs: int = 1) -> list[Row]:
    """One row a case, a line for each operation and dtype; what was measured until then if the user interrupts."""
    rows: dict[int, list[Row]] = {}
    with Workers(limits, jobs) as workers, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(lines))
        try:
            for place, measured in workers.map(measure_line, lines):
                rows[place] = measured
                progress.update(bar, description=f"{measured[0]['operation']}, {measured[0]['dtype']}", advance=1)
                for row in measured:
                    name = f"{row['operation']}, n = {row['n']}, {row['dtype']}"
                    for kernel, reason in row["failed"].items():
                        console.print(f"{name}: {kernel} {reason}", highlight=False)
        except KeyboardInterrupt:
            console.print(f"interrupted: {len(rows)} of {len(lines)} lines were measured")
    return [row for place in sorted(rows) for row in rows[place]]


def measure_line(cases: Sequence[Case], worker: Worker) -> list[Row]:
    """The rows of one operation and dtype. Where two orders in a row never pay, the larger ones count as the same."""
    rows: list[Row] = []
    for case in cases:
        lost = len(rows) > 1 and all(row["smallest batch"] is None and row["n"] > 2 for row in rows[-2:])
        rows.append(_row(case, None, {}) if lost and not case.gradient else measure_one(case, worker))
    return rows


def measure_one(case: Case, worker: Worker) -> Row:
    """The row of a case; a kernel that fails is never used, nor one whose peer hangs (that is another's problem)."""
    try:
        result, failed = worker.run(case)
    except RuntimeError as error:
        result, failed = None, {"measurement": str(error).strip().splitlines()[-1]}
    return _row(case, result, failed)


def _row(case: Case, result: Any, failed: dict[str, str]) -> Row:
    result = result or {"times": {kernel: {} for kernel in KERNELS}, "compile_s": dict.fromkeys(KERNELS)}
    smallest = None if failed else smallest_batch(result, case.plan.least)
    row = {"operation": case.operation, "gradient": case.gradient, "dtype": case.dtype, "n": case.n}
    return row | {"smallest batch": smallest, **result, "failed": failed}


# --- the table


def merged(old: Mapping[str, Table], platform: str, rows: Iterable[Row]) -> dict[str, Table]:
    """The tables of all platforms: what was measured now replaces what was there, all else stays."""
    mine = {
        name: {dtype: dict(smallest) for dtype, smallest in dtypes.items()}
        for name, dtypes in old.get(platform, {}).items()
    }
    for row in rows:
        if not row["gradient"]:
            mine.setdefault(row["operation"], {}).setdefault(row["dtype"], {})[row["n"]] = row["smallest batch"]
    return {**old, platform: mine}


def read(path: pathlib.Path) -> tuple[dict[str, Table], dict[str, str]]:
    """The tables in a file that :func:`render` wrote, and where each platform was measured."""
    if not path.exists():
        return {}, {}
    module = runpy.run_path(str(path))
    return module["SMALLEST_BATCH"], dict(re.findall(r"^- (\w+): (.+)$", module["__doc__"] or "", re.MULTILINE))


HEAD = '''"""The smallest batch for which a batch-minor kernel is used. Written by ``python -m benchmarks crossovers``.

``SMALLEST_BATCH[platform][operation][dtype][n]``, where n is the longest axis of a matrix; None: never. An n that is
missing was not measured, and is as the next larger one, which is stricter.
A platform that is not listed was not measured, and uses LAPACK's or cuSOLVER's kernel.

The rule: from that batch on the kernel is at least {percent} % faster than the other, and what it takes longer to
compile is paid back within {calls} calls, with the batch on the last axis before and after, as in the middle of a
vmapped pipeline; above n = {small}, where the batch stays in front, on the first.
The batch is one of {batches};
the times are a constant and a slope for each kernel, fitted to those at {measured}.

Measured on:

{machines}
"""

from __future__ import annotations

SMALLEST_BATCH: dict[str, dict[str, dict[str, dict[int, int | None]]]] = {{
{body}
}}
'''


def render(tables: Mapping[str, Table], machines: Mapping[str, str]) -> str:
    """The text of the module, as ruff formats it, in an order that does not depend on that of the measurement."""
    return HEAD.format(
        percent=round(100 * (GAIN - 1)),
        calls=CALLS,
        small=SMALL,
        batches=", ".join(map(str, BATCHES)),
        measured=", ".join(f"{' and '.join(map(str, x.batches))} ({platform})" for platform, x in PLANS.items()),
        machines="\n".join(
            f"- {platform}: {machines[platform]}" for platform in sorted(tables) if platform in machines
        ),
        body="\n".join(_block(platform, tables[platform]) for platform in sorted(tables)),
    )


def _block(platform: str, table: Table) -> str:
    """The table of one platform, operations and dtypes in the order in which they are measured."""
    lines = []
    for operation in _ordered(table, OPERATIONS):
        lines += [f'        "{operation}": {{']
        for dtype in _ordered(table[operation], DTYPES):
            lines += _line(dtype, table[operation][dtype])
        lines += ["        },"]
    return "\n".join([f'    "{platform}": {{', *lines, "    },"]) if lines else f'    "{platform}": {{}},'


def _ordered(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """The names in the given order, those that it does not know behind."""
    place = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def _line(dtype: str, smallest: Smallest) -> list[str]:
    """The entries of one dtype, or, if they are too long for a line, a line each."""
    entries = [f"{n}: {smallest[n]}" for n in sorted(smallest)]
    line = f'            "{dtype}": {{{", ".join(entries)}}},'
    if len(line) <= LINE_LENGTH:
        return [line]
    return [f'            "{dtype}": {{', *(f"                {entry}," for entry in entries), "            },"]


def platform_name() -> str:
    """The platform as lowering rules name it: cpu, cuda, rocm, tpu."""
    backend = jax.extend.backend.get_backend()
    if backend.platform != "gpu":
        return backend.platform
    return "rocm" if "rocm" in backend.platform_version.lower() else "cuda"


def machine() -> str:
    """In one line what the figures were measured on."""
    where = f"{report.processor()}, {report.cores()} cores"
    if jax.default_backend() != "cpu":
        where = jax.devices()[0].device_kind
    versions = report.versions()
    return f"{where}; " + ", ".join(f"{name} {versions[name]}" for name in ("linalgx", "jax", "jaxlib"))


# --- the command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    parser.add_argument("--only", action="append", metavar="NAME", help="operations with this in their name")
    parser.add_argument("--n", type=int, nargs="+", default=ORDERS, help="orders of the matrices")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--gradients", action="store_true", help="also value_and_grad, for the record: not in the rule")
    parser.add_argument("--dry-run", action="store_true", help="leave the table as it is")
    isolated.add_arguments(parser)
    parser.add_argument("--table", type=pathlib.Path, default=_default_path(), help="the file to rewrite")


def _default_path() -> pathlib.Path:
    return pathlib.Path(linalgx.__file__).parent / "_kernels" / "crossovers.py"


def main(options: argparse.Namespace) -> None:
    """Measure, print, rewrite the table, and write the times if ``--out`` asks for them."""
    operations = [name for name in with_kernel() if not options.only or any(part in name for part in options.only)]
    if not operations:
        raise SystemExit("no operation with a batch-minor kernel has such a name: " + ", ".join(with_kernel()))
    console = Console()
    plan = PLANS.get(platform_name(), PLANS["cuda"])
    lines = [
        [Case(name, n, dtype, gradient, plan) for n in sorted(options.n)]
        for gradient in ((False, True) if options.gradients else (False,))
        for name, dtype in itertools.product(operations, options.dtype)
    ]
    rows = measure(lines, Limits(running=options.limit), console, options.jobs)
    report.print_table("smallest batch, by n", shown(rows))
    if options.out:
        console.print(f"written: {report.write(options.out, 'crossovers', rows)}")
    if len(rows) < sum(map(len, lines)):
        console.print("the table stays as it is")
    elif not options.dry_run:
        tables, machines = read(options.table)
        tables = merged(tables, platform_name(), rows)
        options.table.write_text(render(tables, {**machines, platform_name(): machine()}))
        console.print(f"written: {options.table}")


def shown(rows: Sequence[Row]) -> list[Row]:
    """A line for each operation and dtype: for each n the smallest batch, and the gain at the largest one timed."""
    lines: dict[tuple[str, str], Row] = {}
    for row in rows:
        name = f"grad {row['operation']}" if row["gradient"] else row["operation"]
        line = lines.setdefault((name, row["dtype"]), {"operation": name, "dtype": row["dtype"]})
        line[f"n = {row['n']}"] = _entry(row)
    return list(lines.values())


def _entry(row: Row) -> str:
    ours, theirs = (row["times"][kernel] for kernel in KERNELS)
    if not ours or not theirs:
        return next(iter(row["failed"].values()), "-").split(":")[0][:12]
    gain = theirs[max(theirs)] / ours[max(ours)]
    return f"{row['smallest batch'] or 'never'} (x{gain:.2g})"
