"""The benchmarks measure what they say: timing, tables, files, sides that hang, the table of crossovers."""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from benchmarks import cases, classic, crossovers, general, memory, report, small, stress
from benchmarks.__main__ import TABLES, WITH_OPTIONS, main
from benchmarks.isolated import Limits, Worker, Workers
from benchmarks.libraries import Missing, library
from benchmarks.selection import chosen
from benchmarks.timing import TURN, Effort, Timing, compiled, geometric_mean, interleaved
from linalgx._core.operation import RULES
from linalgx._kernels import select

PROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"


# --- timing


class Clock:
    """A clock that moves when a side runs."""

    def __init__(self):
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name, *seconds):
        """A side that takes these times, the last one ever after."""

        def run():
            self.calls.append(name)
            self.now += seconds[min(self.calls.count(name), len(seconds)) - 1]

        return run


def test_statistics_of_samples():
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Timing(median=3.0, iqr=2.0, minimum=1.0, rounds=5)
    assert Timing.of([2.0], calls=3) == Timing(median=2.0, iqr=0.0, minimum=2.0, rounds=1, calls=3)


def test_sides_take_turns_and_warm_up_first():
    clock, turns = Clock(), []
    # the first call, of 100 s, compiles; the second tells how many calls fill a sample
    sides = {"a": clock.side("a", 100.0, 1.0), "b": clock.side("b", 100.0, 2.0)}
    times = interleaved(sides, Effort(rounds=3, budget=0.0, sample=2.0), before=turns.append, clock=clock)
    assert times == {"a": Timing(1.0, 0.0, 1.0, 3, calls=2), "b": Timing(2.0, 0.0, 2.0, 3, calls=1)}
    assert clock.calls == [*"aabb", *"aab", *"baa", *"aab"]
    assert turns == [*"ab", *"ab", *"ba", *"ab"]


def test_rounds_go_on_within_the_budget():
    clock = Clock()
    effort = Effort(rounds=2, budget=5.0, most=100, sample=0.0)
    assert interleaved({"a": clock.side("a", 1.0)}, effort, clock=clock)["a"].rounds == 5
    effort = dataclasses.replace(effort, most=3)
    assert interleaved({"a": clock.side("a", 1.0)}, effort, clock=clock)["a"].rounds == 3
    effort = dataclasses.replace(effort, budget=0.0)
    assert interleaved({"a": clock.side("a", 1.0)}, effort, clock=clock)["a"].rounds == 2


def test_compiling_is_timed_apart():
    side, seconds = compiled(lambda x, y: x + y, np.ones(3), np.ones(3))
    np.testing.assert_array_equal(side(), 2 * np.ones(3))
    assert seconds > 0


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert math.isnan(geometric_mean([]))


# --- tables and files


def test_table_has_all_rows_and_columns(capsys):
    report.print_table("title", [{"a": "x", "b": 0.12345}, {"a": "y", "b": None, "c": 12345.6}])
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:] if line.strip(" ─")] == [
        ["a", "b", "c"],
        ["x", "0.123", "-"],
        ["y", "-", "12346"],
    ]


def test_wide_table_is_not_squeezed(capsys):
    report.print_table("title", [{f"column {i}": "a long entry" for i in range(30)}])
    assert capsys.readouterr().out.count("a long entry") == 30


def test_report_names_the_machine(tmp_path):
    path = report.write(tmp_path / "new", "name", [{"a": 1.5, "b": None}], more=[1])
    found = json.loads(path.read_text())
    assert found["benchmark"] == "name"
    assert found["rows"] == [{"a": 1.5, "b": None}]
    assert found["more"] == [1]
    assert found["machine"]["jax"] == jax.__version__
    assert found["machine"]["processor"]
    assert 1 <= found["machine"]["cores"] <= os.cpu_count()


# --- sides that hang, crash or fail


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A task with sides that behave as they are named."""

    sides: tuple[str, ...]

    def __call__(self, beat, skip):
        done = []
        for side in self.sides:
            if side not in skip:
                beat(side)
                getattr(self, side)()
                done.append(side)
        return done, os.getpid()

    def works(self):
        pass

    def sleeps(self):
        time.sleep(600)

    def spins(self):
        while True:
            pass

    def crashes(self):
        os._exit(1)

    def raises(self):
        raise ValueError("as it should")


def test_worker_reports_who_fails_and_goes_on():
    with Worker(Limits(running=1.0, idle=0.5)) as worker:
        (done, first), failed = worker.run(Trouble(("works",)))
        assert (done, failed) == (["works"], {})
        (done, second), failed = worker.run(Trouble(("sleeps", "crashes", "works", "spins")))
        assert (done, failed) == (["works"], {"sleeps": "hangs", "crashes": "crashes", "spins": "hangs"})
        with pytest.raises(RuntimeError, match="as it should"):
            worker.run(Trouble(("raises",)))
        (done, third), failed = worker.run(Trouble(("works",)))
        assert (done, failed) == (["works"], {})
    assert len({first, second, third, os.getpid()}) == 4


@dataclasses.dataclass(frozen=True)
class Turn:
    """A task that notes when it had its turn, and how many others had it at the same time."""

    path: str
    place: int

    def __call__(self, beat, skip):
        def side():
            entry = pathlib.Path(self.path, str(self.place))
            entry.touch()
            time.sleep(0.02)
            together.append(len(list(entry.parent.iterdir())))
            entry.unlink()

        together = []
        beat(None)
        interleaved({"side": side}, Effort(rounds=3, budget=0.0, sample=0.0))
        return together


def test_workers_time_one_after_the_other(tmp_path):
    tasks = [Turn(str(tmp_path), place) for place in range(4)]
    with Workers(Limits(), jobs=2) as workers:
        done = dict(workers.map(lambda task, worker: worker.run(task), tasks))
    assert sorted(done) == [0, 1, 2, 3]
    assert all(set(together) == {1} and not failed for together, failed in done.values())
    assert TURN not in os.environ


def test_workers_give_up_when_interrupted():
    def interrupted(task, worker):
        if task == "interrupt":
            raise KeyboardInterrupt
        with pytest.raises(RuntimeError, match=r"given up|failed"):
            worker.run(Trouble(("sleeps",)))
        ended.append(task)

    ended, start = [], time.monotonic()
    with pytest.raises(KeyboardInterrupt), Workers(Limits(running=100, idle=100), jobs=2) as workers:
        list(workers.map(interrupted, ["sleeps", "interrupt"]))
    assert ended == ["sleeps"]
    assert time.monotonic() - start < 60


# --- small


def case(group: str, name: str, n: int) -> cases.Case:
    return cases.Case(group, name, n, "float64", elements=2 * n * n)


SLOW = ("Kalman step", "nearest rotation")  # to compile


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in cases.PIPELINES]
)
def test_pipelines_of_both_libraries_agree(name):
    one = case("pipeline gradient", name, max(cases.PIPELINES[name].sizes[:2]))
    arrays = one.inputs()
    # jax.numpy promotes dtypes and ranks inside its own functions
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ours, last, theirs, copy = (one.side(side, arrays)[0]() for side in one.side_names())
    for x, y, z in zip(*map(jax.tree.leaves, (ours, theirs, last)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(x, np.moveaxis(z, -1, 0), rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(copy[0], arrays[0] + 1)


@pytest.mark.parametrize("peer", ["numpy", "scipy", "torch"])
def test_peers_compute_the_same(peer):
    pytest.importorskip(peer)  # torch is a peer that need not be installed
    measured = []
    for name in cases.OPERATIONS:
        one = case("operation", name, 3)
        with contextlib.suppress(Missing):
            theirs = _arrays(one.side(peer, one.inputs())[0]())
            ours = _arrays(cases.OPERATIONS[name].function(library("linalgx"), *one.inputs()))
            measured.append(name)
            # decompositions that are not unique are left at their shapes
            assert sorted(map(np.shape, ours))[0] == sorted(map(np.shape, theirs))[0]
            if len(theirs) == 1:
                np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-6, atol=1e-9)
    assert {"solve, 1 column", "inv", "det", "svd"} <= set(measured)


def _arrays(out):
    return [np.asarray(x) for x in (out if isinstance(out, tuple | list) else [out])]


def test_cases_are_selected_by_name():
    options = options_of("--only", "log density", "--only", "svdvals", "--n", "3", "--dtype", "float32")
    found = [(case.group, case.name) for case in small.selected(options)]
    assert found == [
        ("operation", "svdvals"),
        ("operation gradient", "grad svdvals"),
        ("pipeline", "log density"),
        ("pipeline gradient", "grad log density"),
    ]
    everything = list(small.selected(options_of()))
    assert len(everything) == 2 * (2 * 19 * 7 + 2 * (3 * 7 + 1))
    assert {case.batch for case in everything if case.n == 2} == {250_000}


def options_of(*arguments):
    parser = argparse.ArgumentParser()
    small.add_arguments(parser)
    return parser.parse_args(arguments)


def test_ratios_and_summary():
    times = {"linalgx": {"ns": 2.0, "compile_s": 1.0}, "jnp": {"ns": 8.0, "compile_s": 0.5}, "torch": {"ns": 4.0}}
    found = small.ratios(times)
    assert found == {"jnp/linalgx": 4.0, "best/linalgx": 2.0, "best peer": "torch", "jnp/batch last": None}
    base = {"group": "operation", "dtype": "float32", "batch": 10}
    hung = {"linalgx": {"ns": 2.0, "compile_s": 4.0}}
    rows = [
        {**base, "case": "det", "n": 2, "times": times, "failed": {}, **found},
        {**base, "case": "inv", "n": 4, "times": hung, "failed": {"jnp": "hangs"}, **small.ratios(hung)},
    ]
    (line,) = small.summarise(rows)
    assert line["jnp/linalgx"] == pytest.approx(4.0)
    assert line["smallest"] == "2.00 det, n = 2, torch"
    assert (line["cases"], line["jnp failed"], line["below 1"]) == (2, 1, 0)
    assert line["linalgx compile s"] == pytest.approx(2.0)
    assert small.table_row(rows[1])["jnp"] == "hangs"


def test_small_from_end_to_end(tmp_path, capsys):
    options = "--quick --only cholesky --n 2 --dtype float32 --elements 400"
    main(["small", *options.split(), "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert "geometric means" in out
    found = json.loads((tmp_path / "small.json").read_text())
    assert [(row["case"], row["n"], row["failed"]) for row in found["rows"]] == [
        ("cholesky", 2, {}),
        ("grad cholesky", 2, {}),
    ]
    for row in found["rows"]:
        assert row["batch"] == 100
        assert row["jnp/linalgx"] == pytest.approx(row["times"]["jnp"]["ns"] / row["times"]["linalgx"]["ns"])
        assert row["times"]["linalgx"]["compile_s"] > 0
    assert [line["group"] for line in found["summary"]] == ["operation", "operation gradient"]
    if importlib.util.find_spec("matplotlib"):
        for name in ("small.png", "small_gradients.png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", general.OPERATIONS)
def test_general_sides_compute_the_same(name):
    for group in ("operation", "operation gradient"):
        case = general.GeneralCase(group, name, 4, "float64", count=1)
        arrays = case.inputs()
        results = {
            side: [np.asarray(x) for x in jax.tree.leaves(case.side(side, arrays)[0]())] for side in case.side_names()
        }
        assert all(np.isfinite(x).all() for out in results.values() for x in out)
        if name in ("lu", "qr", "eigh", "svd"):
            continue  # up to signs
        if case.has_gradient:
            results.pop("torch", None)  # the gradient alone, and that of a triangle may be a whole matrix
        for x, *others in zip(*results.values(), strict=True):
            for y in others:
                np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)


def test_general_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(general, "QUICK_SIZES", ((8, 1), (8, 2), (9, 1)))
    main(["general", "--quick", "--n", "8", "--only", "lstsq", "--dtype", "float64", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "general.json").read_text())
    assert [(row["case"], row["batch"]) for row in written["rows"]] == [
        (case, batch) for case in ("lstsq", "grad lstsq") for batch in (1, 2)
    ]
    assert all(row["jnp/linalgx"] > 0 for row in written["rows"])
    assert "geometric means" in capsys.readouterr().out


def test_stress_tells_what_hung():
    class Hung:
        def run(self, task):
            return None, {"3": "hangs"} if task.package == "jnp" else {}

    row = {"package": "linalgx", "runs": 1, "calls": 5, "failed": None}
    came_back = stress.run_again(row, stress.Stress("linalgx", "solve", 4, 10, 5), Hung())
    assert came_back == row | {"runs": 2, "calls": 10}
    hung = stress.run_again(row, stress.Stress("jnp", "solve", 4, 10, 5), Hung())
    assert hung == row | {"runs": 2, "calls": 7, "failed": "call 3 of run 2 hangs"}
    assert stress.run_again(hung, stress.Stress("linalgx", "solve", 4, 10, 5), Hung()) == hung


@pytest.mark.parametrize("program", stress.GRADIENTS)
def test_stress_programs_run(program):
    beats = []
    for package in stress.PACKAGES:
        beat = lambda call, compiling=False: beats.append((call, compiling))
        stress.Stress(package, program, 3, 2, 2)(beat, frozenset())
    assert beats == [("0", True), ("1", False), ("2", False)] * 2


def test_stress_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stress, "SIZES", ((2, 3), (3, 2)))
    main(["stress", "--quick", "--runs", "2", "--only", "slogdet", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "stress.json").read_text())["rows"]
    assert [(row["package"], row["n"], row["batch"]) for row in rows] == [
        (package, *size) for size in stress.SIZES for package in stress.PACKAGES
    ]
    assert all((row["runs"], row["calls"], row["failed"]) == (2, 2 * stress.QUICK_CALLS, None) for row in rows)
    assert "slogdet" in capsys.readouterr().out
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "stress.png").read_bytes().startswith(b"\x89PNG")


def test_temporaries_are_counted():
    x = jax.numpy.ones((64, 64))
    assert memory.temporaries(lambda x: x @ x @ x, (x,)) >= x.nbytes


def test_all_runs_everything_but_crossovers(monkeypatch):
    ran = []
    record = lambda options, *_: ran.append((options.name, options.quick))
    monkeypatch.setattr("benchmarks.__main__.run_table", record)
    for module in WITH_OPTIONS.values():
        monkeypatch.setattr(module, "main", record)
    main(["all", "--quick"])
    assert ran == [(name, True) for name in [*TABLES, *WITH_OPTIONS] if name != "crossovers"]


def test_all_goes_on_where_no_case_has_the_name(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr("benchmarks.__main__.run_table", lambda options, module: chosen(["qr"], options.only))
    for name, module in WITH_OPTIONS.items():
        monkeypatch.setattr(module, "main", lambda options, name=name: ran.append((name, options.only)))
    main(["all", "--only", "cholesky", "--only", "slogdet"])
    assert ran == [(name, ["cholesky", "slogdet"]) for name in WITH_OPTIONS if name != "crossovers"]
    assert capsys.readouterr().out.count("no case has such a name") == len(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_chosen_cases(table, tmp_path):
    main([table, "--quick", "--only", "cholesky_solve" if table != "overhead" else "det", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / f"{table}.json").read_text())["rows"]
    expected = ["det, us a call", "slogdet, us a call"] if table == "overhead" else ["cholesky_solve"]
    assert [row.get("operation", row.get("what")) for row in rows] == expected


@pytest.mark.parametrize("module", [small, general, classic])
def test_peers_that_are_not_measured_are_named(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("benchmarks.selection.measurable", lambda name: name != "torch")
    monkeypatch.setattr(small, "measure", lambda *_: [])
    monkeypatch.setattr(report, "print_table", lambda title, rows: None)
    name = next(name for name in WITH_OPTIONS if WITH_OPTIONS[name] is module)
    main([name, "--quick", "--only", "cholesky"])
    assert "not measured: torch" in capsys.readouterr().out


def test_unknown_case_is_refused():
    with pytest.raises(SystemExit, match="the names are cholesky"):
        main(["small", "--only", "nothing like this"])


# --- crossovers


def test_fit_of_constant_and_slope():
    assert crossovers.fit({10: 12.0, 1000: 210.0}) == pytest.approx((10.0, 0.2))
    assert crossovers.fit({10: 1.0, 100: 20.0}) == pytest.approx((0.0, 0.15))
    assert crossovers.fit({10: 3.0, 100: 3.0}) == pytest.approx((3.0, 0.0))
    assert crossovers.fit({10: 5.0}) == pytest.approx((0.0, 0.5))


def result(ours, theirs, compile_ours=0.1, compile_theirs=0.1):
    """Constants and slopes of both kernels, as a measurement."""
    times = {
        kernel: {batch: constant + slope * batch for batch in crossovers.PLANS["cpu"].batches}
        for kernel, (constant, slope) in zip(crossovers.KERNELS, (ours, theirs), strict=True)
    }
    return {"times": times, "compile_s": dict(zip(crossovers.KERNELS, (compile_ours, compile_theirs), strict=True))}


def test_rule():
    faster, slower = (1e-5, 1e-8), (1e-5, 1e-7)
    assert crossovers.smallest_batch(result(faster, slower)) == 30  # 1.1 * (10 us + 0.3 us) < 13 us
    assert crossovers.smallest_batch(result(slower, faster)) is None
    assert crossovers.smallest_batch(result(faster, (1e-5, 1.05e-8))) is None  # not by 10 %
    # 0.9 s more to compile, 90 ns saved with each matrix: paid back in 1000 calls by batches of 10 000
    assert crossovers.smallest_batch(result(faster, slower, compile_ours=0.99)) == 10_000
    assert crossovers.smallest_batch(result(faster, slower, compile_ours=200.0)) is None
    # faster for small batches only
    assert crossovers.smallest_batch(result((0.0, 1e-7), (1e-5, 9e-8))) is None
    lost = {"times": {"batch_minor": {}, "lapack": {}}, "compile_s": dict.fromkeys(crossovers.KERNELS)}
    assert crossovers.smallest_batch(lost) is None


def rows_of(operation, dtype, smallest):
    keys = {"operation": operation, "gradient": False, "dtype": dtype}
    return [{**keys, "n": n, "smallest batch": batch} for n, batch in smallest.items()]


def test_written_table_reads_back_and_keeps_other_platforms(tmp_path):
    path = tmp_path / "crossovers.py"
    assert crossovers.read(path) == ({}, {})
    first = crossovers.merged({}, "cuda", rows_of("svd", "complex64", {1: 10, 2: None}))
    path.write_text(crossovers.render(first, {"cuda": "NVIDIA card; jax 1"}))
    tables, machines = crossovers.read(path)
    assert (tables, machines) == (first, {"cuda": "NVIDIA card; jax 1"})
    # what is measured replaces what was there, and all else stays
    old = rows_of("svd", "float64", {n: 1000 for n in range(1, 9)}) + rows_of("det", "float32", {1: 10})
    new = rows_of("svd", "float64", {1: 10, 2: 10, 4: None})
    tables = crossovers.merged(crossovers.merged(tables, "cpu", old), "cpu", new)
    path.write_text(crossovers.render(tables, {**machines, "cpu": "a CPU, 2 cores; jax 2"}))
    read, machines = crossovers.read(path)
    assert read == tables
    assert read["cpu"]["svd"]["float64"] == {1: 10, 2: 10, 3: 1000, 4: None} | dict.fromkeys(range(5, 9), 1000)
    assert read["cpu"]["det"]["float32"] == {1: 10}
    assert read["cuda"] == first["cuda"]
    assert machines == {"cpu": "a CPU, 2 cores; jax 2", "cuda": "NVIDIA card; jax 1"}
    # the same measurements give the same file, whatever their order
    shuffled = crossovers.merged(crossovers.merged({"cuda": first["cuda"]}, "cpu", old[::-1]), "cpu", new[::-1])
    assert crossovers.render(shuffled, machines) == path.read_text()
    assert list(read["cpu"]) == ["det", "svd"]


def test_missing_order_is_as_the_next_larger(monkeypatch):
    measured = rows_of("det", "float32", {2: 10, 4: None, 6: 100})
    monkeypatch.setattr(select, "SMALLEST_BATCH", crossovers.merged({}, "cpu", measured))
    found = [select.smallest_batch("det", "cpu", n, "float32") for n in range(1, 8)]
    assert found == [10, 10, None, None, 100, 100, None]
    assert select.smallest_batch("det", "cuda", 2, "float32") is None


def test_written_table_is_as_ruff_formats_it(tmp_path):
    pytest.importorskip("ruff")  # belongs to the environment of `make lint`, which CI makes first
    path = tmp_path / "crossovers.py"
    rows = rows_of("det", "float64", {n: 100_000 for n in range(1, 9)}) + rows_of("svd", "float32", {1: None})
    path.write_text(crossovers.render(crossovers.merged({"gpu": {}}, "cpu", rows), {"cpu": "a CPU"}))
    for command in (["format", "--check"], ["check"]):
        ran = [sys.executable, "-m", "ruff", *command, "--config", PROJECT, "--no-cache", path]
        subprocess.run(ran, check=True, capture_output=True)


def test_every_kernel_has_a_call():
    kernels = {name for name, rules in RULES.items() if crossovers.is_decided(name, rules.operation.small)}
    assert kernels <= set(crossovers.OPERATIONS)
    assert set(crossovers.with_kernel()) == kernels


@pytest.mark.parametrize("operation", crossovers.OPERATIONS)
def test_calls_run(operation):
    call = crossovers.OPERATIONS[operation]
    arrays = call.inputs(np.random.default_rng(0), 2, 3, "complex64")
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(call.function(*map(jax.numpy.asarray, arrays))))


def test_crossovers_from_end_to_end(tmp_path, capsys):
    path = tmp_path / "crossovers.py"
    path.write_text(crossovers.render({"cuda": {"svd": {"float32": {1: 1}}}}, {"cuda": "a card"}))
    options = "--only solve_triangular --n 2 --dtype float32"
    main(["crossovers", *options.split(), "--table", str(path), "--out", str(tmp_path)])
    assert "smallest batch, by n" in capsys.readouterr().out
    tables, machines = crossovers.read(path)
    assert list(tables["cpu"]["solve_triangular"]["float32"]) == [2]
    assert tables["cuda"] == {"svd": {"float32": {1: 1}}}
    assert report.processor() in machines["cpu"]
    (row,) = json.loads((tmp_path / "crossovers.json").read_text())["rows"]
    assert row["failed"] == {}
