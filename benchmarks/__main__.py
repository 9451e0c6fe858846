"""``python -m benchmarks NAME``: measure and print a table; with ``--out DIR``, write it there as JSON, and plots."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Sequence
from types import ModuleType

import jax

from benchmarks import costs, crossovers, overhead, report, small

TABLES = {"costs": costs, "overhead": overhead}
WITH_OPTIONS = {"small": small, "crossovers": crossovers}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in {**TABLES, **WITH_OPTIONS}.items():
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        command.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for the files")
        if name in WITH_OPTIONS:
            module.add_arguments(command)
    options = parser.parse_args(arguments)
    # a worker process shares a GPU with this one
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_enable_x64", True)
    if options.name in WITH_OPTIONS:
        WITH_OPTIONS[options.name].main(options)
    else:
        run_table(options.name, TABLES[options.name], options.out)


def run_table(name: str, module: ModuleType, out: pathlib.Path | None) -> None:
    """A benchmark without options, whose rows are all there is."""
    rows = module.run()
    report.print_table(name, rows)
    if out:
        report.write(out, name, rows)


if __name__ == "__main__":
    main()
