"""Every public docstring has its slots, in order, and its example runs."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import linalgx

SLOTS = ("Args", "Returns", "Raises", "On failure", "Derivatives", "Example", "Source")
FUNCTIONS = [
    name
    for name in linalgx.__all__
    if callable(getattr(linalgx, name)) and not isinstance(getattr(linalgx, name), type)
]
OF_ARRAYS = [name for name in FUNCTIONS if name not in ("raise_errors", "show_config")]
MODULES = [
    module.name for module in pkgutil.walk_packages(linalgx.__path__, "linalgx.") if "__main__" not in module.name
]


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_slots(name: str) -> None:
    lines = [
        line.strip().removesuffix(":")
        for line in getattr(linalgx, name).__doc__.splitlines()
        if line.strip().endswith(":")
    ]
    present = [slot for slot in lines if slot in SLOTS]
    assert present == sorted(present, key=SLOTS.index)
    assert {"Args", "Returns", "Raises", "Derivatives", "Example"} <= set(present)


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0


def test_every_function_has_an_example() -> None:
    assert all(">>>" in getattr(linalgx, name).__doc__ for name in FUNCTIONS)
