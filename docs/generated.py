"""The pages that are made of the code: API reference, results, derivative rules.

They are written to ``reference/`` and ``rules.rst`` when a build begins. A public name without docstring or without a
group, and a rule without derivation or source, end the build.
"""

from __future__ import annotations

import inspect
import itertools
import pathlib
import re
import sys
from types import ModuleType
from typing import Any

import linalgx
from linalgx._core import results
from linalgx._core.operation import RULES, Rules

GROUPS = {
    "products": ("Products and parts of matrices", ["products"]),
    "decompositions": (
        "Decompositions",
        [f"decompositions.{name}" for name in ("cholesky", "lu", "ldl", "qr", "householder", "eigh", "eig", "svd")],
    ),
    "linear_systems": ("Linear systems and inverses", ["linear_systems", "triangular_systems"]),
    "least_squares": ("Least squares and pseudoinverses", ["least_squares"]),
    "determinants": ("Determinants", ["determinants", "cofactors"]),
    "norms": ("Norms, rank and condition", ["norms", "conditioning"]),
    "matrix_functions": ("Functions of matrices", ["matrix_functions"]),
    "machine": ("Failures and this machine", ["", "_core.errors", "configuration"]),
}
"""The pages of the reference: title, and the modules whose public names they hold."""


class Incomplete(Exception):
    """Something public that the documentation cannot show."""


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("builder-inited", lambda app: write(pathlib.Path(app.srcdir)))
    app.connect("autodoc-process-signature", _signature_as_written)
    return {"parallel_read_safe": True}


def _signature_as_written(app: Any, what: str, name: str, thing: Any, *_: Any) -> tuple[str, str] | None:
    """The annotations of the code, not what they evaluate to (ArrayLike is a union of a dozen types)."""
    from sphinx.util.inspect import stringify_signature

    if what == "class" and thing.__module__ == results.__name__:
        return f"({', '.join(thing._fields)})", ""
    if what != "function":
        return None
    signature = inspect.signature(thing)
    returns = str(signature.return_annotation)
    if returns in (c.__name__ for c in _result_classes()):
        returns = f"{results.__name__}.{returns}"
    return stringify_signature(signature, show_return_annotation=False), returns


def write(folder: pathlib.Path) -> None:
    """Write all pages; a file that stays as it was is not touched, so that Sphinx does not read it again."""
    for name, text in {**reference_pages(linalgx), "rules.rst": rules_page(RULES)}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


# --- API reference


def reference_pages(package: ModuleType) -> dict[str, str]:
    """The reference of everything in ``package.__all__``."""
    groups = {page: _public_names(package, modules) for page, (_, modules) in GROUPS.items()}
    missing = set(package.__all__) - set(itertools.chain.from_iterable(groups.values()))
    if missing:
        raise Incomplete(f"these public names belong to no page of the reference: {sorted(missing)}")
    pages = {f"reference/{page}.rst": _reference_page(package, page, names) for page, names in groups.items()}
    pages["reference/results.rst"] = _results_page()
    toctree = "\n".join(f"   {page}" for page in (*GROUPS, "results"))
    return {"reference/index.rst": f"{_title('API reference')}\n.. toctree::\n   :maxdepth: 2\n\n{toctree}\n", **pages}


def _public_names(package: ModuleType, modules: list[str]) -> list[str]:
    """The public names that are defined in ``modules``, in the order in which they stand there."""
    homes = [f"{package.__name__}.{module}".rstrip(".") for module in modules]
    names = [name for name in package.__all__ if _home(package, name) in homes]
    return sorted(names, key=lambda name: (homes.index(_home(package, name)), _line(getattr(package, name))))


def _home(package: ModuleType, name: str) -> str:
    return getattr(package, name).__module__


def _line(thing: Any) -> int:
    """Where it stands in its file; a class, which may call another module its own, before all functions."""
    return 0 if inspect.isclass(thing) else inspect.getsourcelines(inspect.unwrap(thing))[1]


def _reference_page(package: ModuleType, page: str, names: list[str]) -> str:
    title, _ = GROUPS[page]
    rows, entries = [], []
    for name in names:
        thing = getattr(package, name)
        if not inspect.getdoc(thing):
            raise Incomplete(f"{package.__name__}.{name} has no docstring")
        role, directive = ("class", "autoclass") if inspect.isclass(thing) else ("func", "autofunction")
        rows.append(f"   * - :{role}:`{name}`\n     - {_summary(thing)}")
        entries.append(f".. {directive}:: {package.__name__}.{name}\n")
    table = ".. list-table::\n   :widths: 25 75\n\n" + "\n".join(rows)
    return f"{_title(title)}\n.. currentmodule:: {package.__name__}\n\n{table}\n\n" + "\n".join(entries)


def _result_classes() -> list[type]:
    return [c for c in vars(results).values() if inspect.isclass(c) and c.__module__ == results.__name__]


def _results_page() -> str:
    intro = "Several parts come as a named tuple, which unpacks; its fields have NumPy's and torch's names.\n\n"
    entries = (f".. autoclass:: {results.__name__}.{c.__name__}\n   :no-members:\n" for c in _result_classes())
    return f"{_title('Results')}\n{intro}" + "\n".join(entries)


# --- derivative rules


def rules_page(rules: dict[str, Rules]) -> str:
    """Formula and source of every rule, module by module."""
    order = [f"{linalgx.__name__}.{module}" for _, modules in GROUPS.values() for module in modules]
    entries = sorted(rules.values(), key=lambda entry: order.index(entry.fwd.__module__))
    intro = (
        "Made from ``linalgx._core.operation.RULES`` and the derivations that stand above the rules in the code. In\n"
        "them ``X_bar`` is the cotangent of X with <X_bar, dX> = Re tr(X_bar^H dX), ``^H`` the adjoint, ``o`` the\n"
        "element-wise product. What no operation stands for (norms of matrices, products of three or more matrices,\n"
        "the condition number, ...) is composed of these and of what JAX differentiates itself.\n\n"
    )
    sections = []
    for module, members in itertools.groupby(entries, lambda entry: entry.fwd.__module__):
        sections.append(_title(_subject(sys.modules[module]), "-"))
        sections += [_rule_section(entry) for entry in members]
    return f"{_title('Derivative rules')}\n{intro}" + "\n".join(sections)


def _subject(module: ModuleType) -> str:
    """What the first line of a module's docstring says that it holds, besides derivatives."""
    first = inspect.getdoc(module).splitlines()[0].rstrip(".")
    return _escaped(re.sub(r",( and)? (its|their) derivatives.*", "", first))


def _rule_section(entry: Rules) -> str:
    name = entry.operation.name
    if not entry.source:
        raise Incomplete(f"the rules of {name} have no source")
    public = f"Public function: :func:`linalgx.{name}`. " if name in linalgx.__all__ else ""
    return f"{_title(name, '~')}\n{public}Source: {_escaped(entry.source)}.\n\n{_laid_out(_derivation(entry))}\n"


def _laid_out(derivation: list[str]) -> str:
    """Sentences as paragraphs, and what is indented, the formulas, as it stands."""
    blocks = []
    for is_formula, lines in itertools.groupby(derivation, lambda line: line.startswith("  ")):
        if is_formula:
            blocks.append(".. code-block:: text\n\n" + "\n".join(" " + line for line in lines))
        else:
            paragraphs = itertools.groupby(lines, key=bool)
            blocks += [_escaped(" ".join(paragraph)) for text, paragraph in paragraphs if text]
    return "\n\n".join(block for block in blocks if block != "Rules.") + "\n"


def _derivation(entry: Rules) -> list[str]:
    """The comment that begins with "Rules", above the rules of an operation in the same section of its file."""
    module = inspect.getsource(inspect.getmodule(entry.fwd)).splitlines()
    above = module[: inspect.getsourcelines(entry.fwd)[1] - 1]
    section = max((i for i, line in enumerate(above) if line.startswith("# ---")), default=0)
    starts = [i for i, line in enumerate(above) if line.startswith("# Rules") and i > section]
    if not starts:
        raise Incomplete(f"no derivation stands above the rules of {entry.operation.name}")
    comment = itertools.takewhile(lambda line: line.startswith("#"), above[starts[-1] :])
    return [line.removeprefix("#").removeprefix(" ") for line in comment]


# --- reStructuredText


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def _summary(thing: Any) -> str:
    """The first line of a docstring, which is reStructuredText."""
    return inspect.getdoc(thing).splitlines()[0]


def _escaped(text: str) -> str:
    return re.sub(r"([|*\\`]|_(?=\W))", r"\\\1", text)
