"""What the table says of one function at one kind of input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import linalgx

REAL = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
DTYPES = REAL + COMPLEX

Inputs = Callable[[np.random.Generator, str], tuple[Any, ...]]


def identity_view(out: Any) -> Any:
    """All outputs as they are: for functions without a gauge."""
    return out


@dataclasses.dataclass(frozen=True)
class Case:
    """One function at one kind of input.

    Attributes:
        function: the name in ``linalgx``.
        label: the kind of input ("tall", "upper", "singular", ...).
        inputs: from a generator and a dtype name, the positional arguments as NumPy arrays of one matrix each
            (no batch: the tests add it), or of a batch where ``batchable`` is False.
        reference: the same function of NumPy arrays from an independent source; None if ``view`` says it all.
        options: keyword arguments.
        view: what is compared and differentiated: a pytree of arrays that does not depend on the gauge. It is given
            the output, and must work on NumPy and JAX arrays alike.
        differentiate: positions of the arguments that have derivatives.
        condition: by how much the function may amplify rounding errors.
        derivative_condition: the same for its first derivative.
        as_list: whether the function takes all its arguments as one list.
        batchable: whether leading axes of the arguments are batch axes.
        dtypes: the dtypes for which it is defined.
    """

    function: str
    label: str
    inputs: Inputs
    reference: Callable[..., Any] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    view: Callable[[Any], Any] = identity_view
    differentiate: tuple[int, ...] = (0,)
    condition: float = 10.0
    derivative_condition: float = 100.0
    as_list: bool = False
    batchable: bool = True
    dtypes: tuple[str, ...] = DTYPES

    def __str__(self) -> str:
        return f"{self.function}-{self.label}"

    def __call__(self, *args: Any) -> Any:
        """The function itself."""
        return getattr(linalgx, self.function)(*([list(args)] if self.as_list else args), **self.options)

    def viewed(self, *args: Any) -> list[jax.Array]:
        """The leaves of the view of the function."""
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(self.view(self(*args)))]

    def arrays(self, rng: np.random.Generator, dtype: str, batch: tuple[int, ...] = ()) -> tuple[Any, ...]:
        """Arguments; with ``batch``, that many independent ones stacked along leading axes."""
        if not batch:
            return tuple(np.asarray(x) for x in self.inputs(rng, dtype))
        members = [self.inputs(rng, dtype) for _ in range(int(np.prod(batch)))]
        stacked = zip(*members, strict=True)
        return tuple(np.stack(x).reshape(*batch, *np.shape(x[0])) for x in stacked)


def tolerance(dtype: Any, size: int, condition: float = 1.0) -> float:
    """Relative tolerance for an answer of ``size`` operations deep: constant x n x eps(dtype) x condition."""
    return 16 * max(size, 1) * float(jnp.finfo(dtype).eps) * condition


def assert_close(ours: Any, theirs: Any, rtol: float, message: str = "") -> None:
    """Two pytrees agree in structure, shape and, relative to the largest entry of each leaf, in value."""
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs), message
    for x, y in zip(ours, theirs, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape, f"{message} shapes {x.shape} and {y.shape}"
        if not x.size:
            continue
        finite = np.isfinite(y)
        np.testing.assert_array_equal(np.isfinite(x), finite, err_msg=message)
        scale = np.max(np.abs(y), where=finite, initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(float(scale), 1e-300), err_msg=message)
