"""linalgx and its peers under one set of names, all batched over leading axes."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import linalg as jsp

import linalgx

PEERS = ("jnp", "torch", "numpy", "scipy")
"""jnp is jax.numpy.linalg, and jax.scipy.linalg for what that does not have."""

AT_MOST = {"scipy": 256}
"""The most matrices in a call, for libraries that take them one by one in Python; times are compared per matrix."""


class Missing(AttributeError):
    """A library does not have a function."""


class Library(SimpleNamespace):
    """The functions of a library."""

    def __getattr__(self, name: str) -> Any:
        raise Missing(name)


def _linalgx() -> Library:
    names = """
        cholesky solve inv det slogdet lu lu_factor qr eigvals eigh eigvalsh svd svdvals matrix_exp
        matmul vecdot matrix_norm matrix_transpose cholesky_logdet pinv
    """
    own = {name: getattr(linalgx, name) for name in names.split()}
    return Library(
        **own,
        solve_triangular=functools.partial(linalgx.solve_triangular, upper=False),
        cholesky_solve=lambda L, b: linalgx.cholesky_solve(b, L),
        lstsq=lambda A, b: linalgx.lstsq(A, b).solution,
    )


def _jnp() -> Library:
    names = """
        cholesky solve inv det slogdet qr eigvals eigh eigvalsh svdvals
        matmul vecdot matrix_norm matrix_transpose pinv
    """
    own = {name: getattr(jnp.linalg, name) for name in names.split()}
    return Library(
        **own,
        cholesky_logdet=lambda L: 2 * jnp.sum(jnp.log(jnp.diagonal(L))),
        svd=functools.partial(jnp.linalg.svd, full_matrices=False),
        lu=jnp.vectorize(jsp.lu, signature="(n,n)->(n,n),(n,n),(n,n)"),
        lu_factor=jsp.lu_factor,
        matrix_exp=jsp.expm,
        solve_triangular=functools.partial(jsp.solve_triangular, lower=True),
        cholesky_solve=lambda L, b: jsp.cho_solve((L, True), b),
        lstsq=jnp.vectorize(lambda A, b: jnp.linalg.lstsq(A, b)[0], signature="(m,n),(m,k)->(n,k)"),
    )


def _numpy() -> Library:
    names = "cholesky solve inv det slogdet qr eigh eigvalsh svd svdvals matmul vecdot matrix_norm"
    return Library(**{name: getattr(np.linalg, name) for name in names.split()})


def _scipy() -> Library:
    from scipy import linalg

    own = {name: getattr(linalg, name) for name in "solve inv det lu lu_factor qr eigh svd eigvalsh svdvals".split()}
    return Library(
        **own,
        cholesky=functools.partial(linalg.cholesky, lower=True),
        matrix_exp=linalg.expm,
        solve_triangular=functools.partial(linalg.solve_triangular, lower=True),
    )


def _torch() -> Library:
    import torch

    names = """
        cholesky solve inv det slogdet lu lu_factor qr eigh eigvalsh svd svdvals matrix_exp
        matmul vecdot matrix_norm pinv
    """
    own = {name: getattr(torch.linalg, name) for name in names.split()}
    return Library(
        **own,
        solve_triangular=functools.partial(torch.linalg.solve_triangular, upper=False),
        cholesky_solve=lambda L, b: torch.cholesky_solve(b, L),
        lstsq=lambda A, b: torch.linalg.lstsq(A, b).solution,
    )


_LIBRARIES = {"linalgx": _linalgx, "jnp": _jnp, "numpy": _numpy, "scipy": _scipy, "torch": _torch}


@functools.cache
def library(name: str) -> Library:
    """The functions of a library that is installed."""
    return _LIBRARIES[name]()


def measurable(name: str) -> bool:
    """Whether a peer is installed, and computes where JAX does."""
    if name == "jnp":
        return True
    if importlib.util.find_spec(name) is None:
        return False
    return jax.default_backend() == "cpu" or (name == "torch" and _torch_device() == "cuda")


def eager(name: str, function: Callable[..., Any], arrays: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """A side that calls a library which does not compile."""
    if name == "torch":
        return _torch_side(function, arrays)
    some = tuple(x[: AT_MOST.get(name, len(x))] for x in arrays)
    return lambda: function(library(name), *some)


def _torch_side(function: Callable[..., Any], arrays: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """A side of torch."""
    there = _torch_tensors(arrays)
    return _awaited(lambda: function(library("torch"), *there))


def _torch_tensors(arrays: tuple[np.ndarray, ...]) -> list[Any]:
    """The arrays where JAX computes."""
    import torch

    return [torch.from_numpy(x).to(_torch_device()) for x in arrays]


def _torch_device() -> str:
    """Where JAX computes, if torch can."""
    import torch

    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def _awaited(side: Callable[[], Any]) -> Callable[[], Any]:
    """The side, which waits for the GPU if there is one."""
    import torch

    if _torch_device() == "cpu":
        return side

    def waits() -> Any:
        out = side()
        torch.cuda.synchronize()
        return out

    return waits


def torch_gradient(
    scalar: Callable[[Library], Callable[..., Any]], arrays: tuple[np.ndarray, ...]
) -> Callable[[], Any]:
    """A side of torch that computes a scalar and its gradient with respect to all arrays."""
    import torch

    leaves = [x.requires_grad_() for x in _torch_tensors(arrays)]
    return _awaited(lambda: torch.autograd.grad(scalar(library("torch"))(*leaves), leaves))
