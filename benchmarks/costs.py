"""Residuals and large operations of every backward pass, counted in what XLA compiled, beside jax.numpy.linalg's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import linalg as jsp

import linalgx
from benchmarks.selection import chosen

N = 48
Function = Callable[..., Any]


def pairs(n: int = N) -> dict[str, tuple[Function, Function, tuple[Any, ...]]]:
    """The name of each comparison: linalgx's function, JAX's, and the arguments with derivatives, of order n."""
    rng = np.random.default_rng(0)
    A = jnp.asarray(rng.standard_normal((n, n)) + n * np.eye(n))
    S = (A + A.T) / 2
    B = jnp.asarray(rng.standard_normal((n, n)))
    tall = jnp.asarray(rng.standard_normal((2 * n, n)))
    right = jnp.asarray(rng.standard_normal((2 * n, n)))
    L = jnp.linalg.cholesky(S)
    lower: Function = lambda L, b: linalgx.solve_triangular(L, b, upper=False)  # noqa: E731
    return {
        "cholesky": (linalgx.cholesky, jnp.linalg.cholesky, (S,)),
        "cholesky_solve": (linalgx.cholesky_solve, lambda b, L: jsp.cho_solve((L, True), b), (B, L)),
        "solve_triangular": (lower, lambda L, b: jsp.solve_triangular(L, b, lower=True), (L, B)),
        "lu": (linalgx.lu, jsp.lu, (A,)),
        "lu_factor": (lambda a: linalgx.lu_factor(a).LU, lambda a: jsp.lu_factor(a)[0], (A,)),
        "qr": (linalgx.qr, jnp.linalg.qr, (A,)),
        "qr tall": (linalgx.qr, jnp.linalg.qr, (tall,)),
        "qr wide": (linalgx.qr, jnp.linalg.qr, (tall.T,)),
        "eigh": (linalgx.eigh, jnp.linalg.eigh, (S,)),
        "eigvalsh": (linalgx.eigvalsh, jnp.linalg.eigvalsh, (S,)),
        "eigvals": (linalgx.eigvals, jnp.linalg.eigvals, (A,)),
        "svd": (_svd(linalgx), _svd(jnp.linalg), (A,)),
        "svd tall": (_svd(linalgx), _svd(jnp.linalg), (tall,)),
        "svdvals": (linalgx.svdvals, jnp.linalg.svdvals, (A,)),
        "solve": (linalgx.solve, jnp.linalg.solve, (A, B)),
        "inv": (linalgx.inv, jnp.linalg.inv, (A,)),
        "lstsq": (lambda a, b: linalgx.lstsq(a, b)[0], lambda a, b: jnp.linalg.lstsq(a, b)[0], (tall, right)),
        "pinv": (linalgx.pinv, jnp.linalg.pinv, (tall,)),
        "det": (linalgx.det, jnp.linalg.det, (A / n,)),
        "slogdet": (linalgx.slogdet, jnp.linalg.slogdet, (A,)),
        "matrix_exp": (linalgx.matrix_exp, jsp.expm, (A / n,)),
        "matrix_norm nuc": (_norm(linalgx, "nuc"), _norm(jnp.linalg, "nuc"), (A,)),
        "matrix_norm 2": (_norm(linalgx, 2), _norm(jnp.linalg, 2), (A,)),
        "cond": (linalgx.cond, jnp.linalg.cond, (A,)),
        "matrix_power 5": (lambda a: linalgx.matrix_power(a, 5), lambda a: jnp.linalg.matrix_power(a, 5), (A / n,)),
    }


def _svd(module: Any) -> Function:
    return lambda a: module.svd(a, full_matrices=False)


def _norm(module: Any, order: Any) -> Function:
    return lambda a: module.matrix_norm(a, ord=order)


def run(only: Sequence[str] | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """One row a function: residuals in matrices, then products, solves and factorisations of the backward pass.

    Nothing is timed, so that there is no quicker way.
    """
    rows = []
    comparisons = pairs()
    for name in chosen(comparisons, only):
        ours, theirs, args = comparisons[name]
        row: dict[str, Any] = {"operation": name}
        for side, function in (("linalgx", ours), ("jnp", theirs)):
            residuals, counts = backward(function, args)
            row |= {f"{side} residuals": residuals} | {f"{side} {kind}": number for kind, number in counts.items()}
        rows.append(row)
    return rows


def backward(function: Function, args: tuple[Any, ...]) -> tuple[float, dict[str, int]]:
    """The residuals that the backward pass takes, in units of the arguments' size, and its large operations."""
    out, pull = jax.vjp(function, *args)
    cotangents = jax.tree.map(
        lambda x: jnp.ones_like(x) if jnp.issubdtype(x.dtype, jnp.inexact) else _no_tangent(x), out
    )
    compiled = jax.jit(lambda pull, cotangents: pull(cotangents)).lower(pull, cotangents).compile()
    unit = sum(x.size for x in args) / len(args)
    distinct = {id(x): x for x in jax.tree.leaves(pull)}.values()
    residuals = sum(np.size(x) for x in distinct) / unit
    return round(residuals, 2), operations(compiled.as_text())


def _no_tangent(x: Any) -> np.ndarray:
    return np.zeros(x.shape, jax.dtypes.float0)


def operations(hlo: str) -> dict[str, int]:
    """Matrix products, triangular solves and factorisations in the text of a compiled program.

    Of a conditional the branch counts that runs where the predicate is true: that of well conditioned input.
    """
    running = _running(hlo)
    called = re.findall(r'custom_call_target="([^"]+)"', running)
    solves = len(re.findall(r"= [^=]*\btriangular-solve\(", running)) + sum("trsm" in name for name in called)
    factorisations = sum(name.startswith("lapack") and not re.search("trsm|mqr", name) for name in called)
    factorisations += len(re.findall(r"= [^=]*\bcholesky\(", running))
    products = len(re.findall(r"= [^=]*\bdot\(", running)) + sum(bool(re.search("matmul|mqr", c)) for c in called)
    return {"products": products, "solves": solves, "factorisations": factorisations}


def _running(hlo: str) -> str:
    """The text of the computations that run."""
    computations = dict(re.findall(r"^(?:ENTRY )?%(\S+) [^\n]*\{\n(.*?)^\}", hlo, re.MULTILINE | re.DOTALL))
    never = {false for false, _ in re.findall(r"branch_computations=\{%(\S+), %(\S+)\}", hlo)}
    never |= set(re.findall(r"false_computation=%([^\s,]+)", hlo))
    return "\n".join(body for name, body in computations.items() if name not in never)
