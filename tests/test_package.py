"""The package as it is installed: metadata, types, signatures, and how results print."""

import importlib.metadata
import inspect
import pathlib
import subprocess
import sys
import traceback

import jax
import jax.numpy as jnp
import pytest

import linalgx

FUNCTIONS = [name for name in linalgx.__all__ if inspect.isroutine(inspect.unwrap(getattr(linalgx, name)))]

USERS_PROGRAM = """
import jax
import linalgx


def whiten(S: jax.Array, y: jax.Array) -> jax.Array:
    L = linalgx.cholesky(S, upper=False)
    return linalgx.solve_triangular(L, y, upper=False)


def condition(S: jax.Array) -> float:
    values, vectors = linalgx.eigh(S)
    reveal_type(vectors)
    return float(values[-1] / values[0])


reveal_type(linalgx.lstsq)
linalgx.cholesky(3.0, uper=True)
linalgx.eigh(3.0).eigenvalue
"""


def test_metadata() -> None:
    metadata = importlib.metadata.metadata("linalgx")
    assert metadata["Version"] == linalgx.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    runtime = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert sorted(r.split(">")[0] for r in runtime) == ["jax", "jaxlib", "numpy"]


def test_a_users_program_is_type_checked(tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text(USERS_PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "program.py"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    lines = [line for line in output.splitlines() if "error: " in line or "Revealed type" in line]
    assert "Array" in lines[0]
    assert "LstsqResult" in lines[1]
    assert "rcond" in lines[1]
    assert 'error: Unexpected keyword argument "uper" for "cholesky"' in lines[2]
    assert 'error: "EighResult" has no attribute "eigenvalue"' in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_shows_the_parameters(name: str) -> None:
    function = getattr(linalgx, name)
    parameters = inspect.signature(function).parameters.values()
    assert all(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    assert all(p.annotation is not p.empty for p in parameters)
    assert function.__name__ == name


def test_traceback_ends_at_the_users_line() -> None:
    def wrong_argument(x):
        return linalgx.solve(x, jnp.ones(3))

    def failure(x):
        return linalgx.cholesky(-x)

    for function in (wrong_argument, jax.jit(wrong_argument), failure):
        with linalgx.raise_errors(), pytest.raises((ValueError, linalgx.LinAlgError), match=r"^linalgx\.") as caught:
            function(jnp.eye(2))
        frames = [frame.name for frame in traceback.extract_tb(caught.tb) if "/jax/" not in frame.filename]
        assert frames[-2:] == [function.__name__, "entry"]


def test_batch_of_vectors_is_told_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"b has 4 rows, but a is 3 x 3; for a batch of vectors give b\[\.\.\., None\]"
    ):
        linalgx.solve(jnp.ones((4, 3, 3)), jnp.ones((4, 3)))


def test_results_print_one_field_a_line() -> None:
    result = linalgx.eigh(jnp.array([[2.0, 0.0], [0.0, 1.0]], "float32"))
    text = repr(result._replace(eigenvectors=jnp.eye(2, dtype="float32")))
    assert text.splitlines() == [
        "EighResult(",
        "    eigenvalues=Array([1., 2.], dtype=float32),",
        "    eigenvectors=Array([[1., 0.],",
        "                        [0., 1.]], dtype=float32)",
        ")",
    ]
