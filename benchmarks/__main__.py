"""``python -m benchmarks NAME``: measure and print a table; with ``--out DIR``, write it there as JSON, and plots."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Sequence
from types import ModuleType

import jax
from rich.console import Console

from benchmarks import classic, compilation, costs, crossovers, general, memory, overhead, report, small, stress

TABLES = {"costs": costs, "overhead": overhead, "memory": memory, "compile": compilation}
WITH_OPTIONS = {"small": small, "general": general, "stress": stress, "classic": classic, "crossovers": crossovers}
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in {**TABLES, **WITH_OPTIONS}.items():
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        command.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for the files")
        command.add_argument("--device", choices=PLATFORMS, help="where JAX computes; its own choice if not given")
        if name in WITH_OPTIONS:
            module.add_arguments(command)
        else:
            _add_selection(command)
    everything = commands.add_parser("all", help="all of these but crossovers, which rewrites the table of kernels")
    everything.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for the files")
    everything.add_argument("--device", choices=PLATFORMS, help="where JAX computes; its own choice if not given")
    _add_selection(everything)
    options = parser.parse_args(arguments)
    # a worker process shares a GPU with this one
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.device:
        # for this process and its workers
        os.environ["JAX_PLATFORMS"] = PLATFORMS[options.device]
        jax.config.update("jax_platforms", PLATFORMS[options.device])
    jax.config.update("jax_enable_x64", True)
    if options.name == "all":
        shared = [f"--{name}={value}" for name in ("out", "device") if (value := getattr(options, name))]
        shared += [f"--only={part}" for part in options.only or ()] + ["--quick"] * options.quick
        for name in [*TABLES, *(name for name in WITH_OPTIONS if name != "crossovers")]:
            try:
                main([name, *shared])
            except SystemExit as nothing:
                # no case of this benchmark has such a name
                Console().print(f"{name}: {nothing}")
    elif options.name in WITH_OPTIONS:
        WITH_OPTIONS[options.name].main(options)
    else:
        run_table(options, TABLES[options.name])


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quick", action="store_true", help="fewer sizes and rounds where there is a choice")
    command.add_argument("--only", action="append", metavar="NAME", help="cases whose name has this in it (repeatable)")


def run_table(options: argparse.Namespace, module: ModuleType) -> None:
    """A benchmark without options of its own, whose rows are all there is."""
    rows = module.run(options.only, options.quick)
    report.print_table(options.name, rows)
    if options.out:
        report.write(options.out, options.name, rows)
        small.plots(options.name, rows, options.out, Console())


if __name__ == "__main__":
    main()
