"""The notebooks run; what they store is what their programs say; .py and .ipynb are the same."""

import os
import pathlib
import re
import subprocess
import sys

import jupytext
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
PROGRAMS = sorted(FOLDER.glob("*.py"))
QUICKEST = ("01", "05")

each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)


@each_program
def test_py_and_ipynb_are_the_same(program: pathlib.Path) -> None:
    texts = [
        [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]
        for path in (program, program.with_suffix(".ipynb"))
    ]
    assert texts[0] == texts[1], "run `make notebooks`"


@each_program
def test_stored_outputs_are_those_of_one_clean_run(program: pathlib.Path) -> None:
    cells = [cell for cell in jupytext.read(program.with_suffix(".ipynb")).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    texts = [o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs]
    assert not [text for text in texts if re.search(r"(^|[\s'\"(])/\w+/\w", text)], "a path of the machine that ran it"


@pytest.mark.parametrize(
    "program",
    [pytest.param(p, id=p.stem, marks=() if p.name[:2] in QUICKEST else pytest.mark.slow) for p in PROGRAMS],
)
def test_runs(program: pathlib.Path) -> None:
    environment = {**os.environ, "MPLBACKEND": "agg"}
    run = subprocess.run([sys.executable, program.name], cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
