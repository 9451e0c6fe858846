"""The documentation is complete: what it does not show ends the build, and the tables leave no function out."""

import importlib.util
import pathlib
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

import linalgx
from linalgx._core.operation import RULES
from tests.test_public_api import TORCH

DOCS = pathlib.Path(__file__).parent.parent / "docs"
SPEC = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
generated = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generated)


def _package(**more) -> types.SimpleNamespace:
    """Linalgx with more public names."""
    return types.SimpleNamespace(**{**vars(linalgx), **more, "__all__": [*linalgx.__all__, *more]})


def test_reference_holds_every_public_name_once() -> None:
    pages = "\n".join(generated.reference_pages(linalgx).values())
    shown = re.findall(r"^\.\. auto(?:function|class):: linalgx\.(\w+)$", pages, re.MULTILINE)
    assert sorted(shown) == sorted(linalgx.__all__)


def test_name_without_docstring_ends_the_build() -> None:
    def bare(): ...

    bare.__module__ = "linalgx.norms"
    with pytest.raises(generated.Incomplete, match="bare has no docstring"):
        generated.reference_pages(_package(bare=bare))


def test_name_without_page_ends_the_build() -> None:
    def stray():
        """Somewhere else."""

    with pytest.raises(generated.Incomplete, match="stray"):
        generated.reference_pages(_package(stray=stray))


def test_rules_page_holds_every_rule() -> None:
    page = generated.rules_page(RULES)
    assert all(f"\n{name}\n{'~' * len(name)}\n" in page for name in RULES)
    assert "forward   dL = L Phi(L^-1 dA L^-H)\n" in page


def test_rule_without_source_or_derivation_ends_the_build() -> None:
    entry = RULES["cholesky"]
    with pytest.raises(generated.Incomplete, match="cholesky have no source"):
        generated.rules_page({"cholesky": entry._replace(source="")})
    with pytest.raises(generated.Incomplete, match="no derivation"):
        generated.rules_page({"cholesky": entry._replace(fwd=linalgx.conditioning._product_of_norms)})


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("torch.linalg", {*TORCH, "LinAlgError"}),
        ("numpy.linalg", set(np.linalg.__all__)),
        ("jax.numpy.linalg", {name for name in dir(jnp.linalg) if not name.startswith("_")}),
    ],
)
def test_migration_has_every_function(library: str, names: set[str]) -> None:
    table = (DOCS / "migration.md").read_text().split(f"| {library} | linalgx |")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    theirs = {name.split(".")[-1] for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    ours = {name for row in rows for name in re.findall(r"~linalgx\.(\w+)", row[1])}
    assert names - theirs == set()
    assert ours <= set(linalgx.__all__)
