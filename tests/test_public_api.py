"""What linalgx exports: everything that was promised, nothing else, with the signatures that users know."""

import inspect
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from tests.operations import CASES

TORCH = """
    norm vector_norm matrix_norm diagonal det slogdet cond matrix_rank cholesky cholesky_ex qr lu lu_factor lu_factor_ex
    ldl_factor ldl_factor_ex eig eigvals eigh eigvalsh svd svdvals solve solve_ex solve_triangular lu_solve ldl_solve
    lstsq inv inv_ex pinv matrix_exp matrix_power cross matmul vecdot multi_dot householder_product tensorinv
    tensorsolve vander cholesky_solve cholesky_inverse logdet lu_unpack geqrf ormqr
""".split()
NUMPY = "matrix_transpose outer tensordot trace".split()
FUNCTIONS = sorted(TORCH + NUMPY)


def test_everything_promised_is_exported() -> None:
    assert {*FUNCTIONS, "LinAlgError"} <= set(linalgx.__all__)
    assert len(set(linalgx.__all__)) == len(linalgx.__all__)
    assert all(hasattr(linalgx, name) for name in linalgx.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_the_table(name: str) -> None:
    assert any(case.function == name for case in CASES)


def _parameters(function) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


# deprecated or specific to one backend: jnp documents them as not supported, or NumPy has them for its own memory
LEFT_OUT = {("svd", "subset_by_index"), ("tensordot", "out_sharding"), ("lstsq", "numpy_resid")}


THEIRS = [(module, name) for module in (jnp.linalg, np.linalg) for name in FUNCTIONS if hasattr(module, name)]


@pytest.mark.parametrize(("module", "name"), THEIRS, ids=[f"{module.__name__}.{name}" for module, name in THEIRS])
def test_their_keywords_are_ours(module, name: str) -> None:
    ours, theirs = _parameters(getattr(linalgx, name)), _parameters(getattr(module, name))
    keywords = [p.name for p in theirs.values() if p.default is not p.empty and (name, p.name) not in LEFT_OUT]
    keywords = [k for k in keywords if k not in ("out", "dtype") or name == "trace"]
    assert [k for k in keywords if k not in ours] == []


def test_every_module_says_what_it_is_and_stays_short() -> None:
    for path in pathlib.Path(linalgx.__file__).parent.rglob("*.py"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith('"""'), path
        assert len(lines) <= 600, path
