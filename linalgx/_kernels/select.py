"""The one place that decides which kernel runs: from the operation, its order n, the batch, dtype and platform.

The answer is in the table of :mod:`linalgx._kernels.crossovers`, which ``python -m benchmarks crossovers`` measures and
writes: the smallest batch for which the batch-minor kernel is used, its compile time counted in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from linalgx._core.batch_minor import LARGEST, batch_minor
from linalgx._core.entrywise import entrywise
from linalgx._core.operation import SmallKernel
from linalgx._kernels import cofactor_expansion
from linalgx._kernels.batch_minor import eigh, elimination, exponential, products, qr, svd, triangular
from linalgx._kernels.crossovers import SMALLEST_BATCH

prefer = jax.make_user_context(default_value=None)
"""Context manager for experiments: inside ``with prefer("batch_minor")`` or ``prefer("lapack")`` that kernel runs
wherever there is one, whatever the table says. It is part of the key of jit's cache."""


def use_batch_minor(operation: str, platform: str | None, n: int, batch: Any, dtype: Any) -> bool:
    """Whether the batch-minor kernel runs, of an operation on ``batch`` matrices whose longest axis is ``n``."""
    preferred = prefer.value
    if preferred is not None:
        return preferred == "batch_minor"
    smallest = smallest_batch(operation, platform, n, dtype)
    if smallest is None:
        return False
    # a symbolic batch (of an exported program) stands for a large one
    return not isinstance(batch, int) or batch >= smallest


def smallest_batch(operation: str, platform: str | None, n: int, dtype: Any) -> int | None:
    """What the table says of matrices whose longest axis is ``n``; None: the kernel never runs."""
    by_order = SMALLEST_BATCH.get(platform or "", {}).get(operation, {}).get(jnp.dtype(dtype).name, {})
    return by_order.get(min((measured for measured in by_order if measured >= n), default=0))


def small_kernel(operation: str, kernel: Callable[..., Any] | None = None) -> SmallKernel:
    """The batch-minor kernel of an operation on matrices, and when it runs; ``kernel`` if it is not one of these."""
    selected = functools.partial(use_batch_minor, operation)
    rereads = _REREADS.get(operation, lambda *shapes: False)
    return SmallKernel(kernel or _KERNELS[operation], selected, rereads=rereads, longest=LARGEST)


def small_products(function: Callable[..., Any]) -> SmallKernel:
    """The kernel of an operation that has none of its own: its code, with the products that small matrices have."""
    return SmallKernel(batch_minor(function), functools.partial(use_batch_minor, "matmul"))


_REREADS: dict[str, Callable[..., bool]] = {
    # a few loops read the entries of a small one where they lie
    "cholesky": lambda A: A[0] > 6,
    "cholesky_inverse": lambda L: True,
    "cholesky_solve": lambda L, B: B[1] > 1,
    "matmul": lambda A, B: True,
    # for several right-hand sides, as rows or as columns
    "solve_triangular": lambda A, B: min(B) > 1,
}
"""Which kernels read entries of matrices of these shapes several times; the others that are named read each once."""


def _slogdet(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    # of few rows the expansion by cofactors takes less than the elimination
    return elimination.slogdet(A) if A.shape[0] > 3 else cofactor_expansion.slogdet(A, batch_minor)


# on a GPU entry by entry, but for products: their entries have little in common, and are many operations
_ENTRYWISE: dict[str, Callable[..., Any]] = {
    "cholesky": triangular.cholesky,
    "cholesky_inverse": triangular.cholesky_inverse,
    "cholesky_solve": triangular.cholesky_solve,
    "det": elimination.det,
    "inv": elimination.inv,
    "lu_factor": elimination.lu_factor,
    "lu_solve": elimination.lu_solve,
    "eigh": eigh.eigh,
    "eigvalsh": eigh.eigvalsh,
    "householder_qr": qr.householder_qr,
    "qr": qr.qr,
    "slogdet": _slogdet,
    "slogdet_and_inverse": elimination.slogdet_and_inverse,
    "solve": lambda A, LU, pivots, B, **options: elimination.lu_solve(LU, pivots, B, **options),
    "solve_triangular": triangular.solve_triangular,
    "svd": svd.svd,
    "svdvals": svd.svdvals,
}
_KERNELS = {name: entrywise(kernel) for name, kernel in _ENTRYWISE.items()} | {
    "matmul": products.matmul,
    "matrix_exp": exponential.matrix_exp,
}
