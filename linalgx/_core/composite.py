"""Plain code under vmap: the small steps between decompositions, in the layout that these have.

JAX's batching rules move a mapped axis to the front in most products, broadcasts and reshapes. Between two operations
whose batch lies on the last axis that costs more than the operations. A function decorated with :func:`composite` is
one primitive: mapped over small problems it is evaluated with the batch last
(:func:`linalgx._core.batch_minor.batch_minor`), and so are its derivatives, which JAX finds in its code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from linalgx._core.batch_minor import batch_minor
from linalgx._core.entrywise import entry_by_entry
from linalgx._core.linear_map import is_small_problem, transpose_of_code
from linalgx._core.operation import Operation, SmallKernel, always


def composite(
    rank: int | None = None, in_front: bool = False, picks: bool = True
) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
    """Make a primitive of a cheap function of arrays, with static parameters by keyword, that gives one array.

    Its value is computed again in its derivatives: it must not factor anything. With ``rank``, the number of axes of
    the first argument of one problem, all arguments have the same leading axes, and these are a batch, too. With
    ``in_front`` a mapped axis that all arguments have in front stays there, and the code is mapped as JAX does it.
    With ``picks``, for one that picks entries or makes few numbers of them, small problems go :func:`entry_by_entry`.
    """
    return lambda function: _Composite(function, rank, in_front, picks)


class _Composite(Operation):
    """An operation whose kernel and rules follow from its implementation."""

    def __init__(self, function: Callable[..., jax.Array], rank: int | None, in_front: bool, picks: bool):
        kernel = entry_by_entry(batch_minor(function)) if picks else batch_minor(function)
        small = SmallKernel(kernel, always, rank, rereads=lambda *shapes: not picks)
        super().__init__(function.__name__, function, small=small)
        self.in_front = in_front
        self.fwd, self.bwd, self.jvp = self._fwd, self._bwd, self._jvp
        ad.primitive_jvps[self.primitive] = self._differentiate
        ad.primitive_transposes[self.primitive] = self._transpose

    def _run(self, *args: Any, batch_last: bool, **params: Hashable) -> list[jax.Array]:
        function = functools.partial(self.implementation, **params)
        return [(jax.vmap(function, -1, -1) if batch_last else function)(*args)]

    def _batch(self, args: Any, axes: Any, *, batch_last: bool, **params: Hashable) -> Any:
        stays = self.in_front and not any(axes)
        if batch_last or (is_small_problem(args, axes) and not stays):
            return super()._batch(args, axes, batch_last=batch_last, **params)
        return jax.vmap(functools.partial(self._run, batch_last=False, **params), axes)(*args), [0]

    def _transpose(self, cotangents: Any, *args: Any, **params: Any) -> Any:
        if type(cotangents[0]) is ad.Zero:
            return [None] * len(args)
        return transpose_of_code(self.name, functools.partial(self._run, **params), cotangents, args)

    def _fwd(self, *args: jax.Array, **params: Hashable) -> Any:
        return self(*args, **params), args

    def _bwd(self, args: Any, cotangent: jax.Array, **params: Hashable) -> Any:
        moving = [i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.inexact)]
        _, pull = jax.vjp(self._function_of(moving, args, params), *(args[i] for i in moving))
        found = dict(zip(moving, pull(jnp.conj(cotangent)), strict=True))
        return tuple(jnp.conj(found[i]) if i in found else None for i in range(len(args)))

    def _jvp(self, args: Any, *tangents: jax.Array | None, **params: Hashable) -> jax.Array:
        moving = [i for i, t in enumerate(tangents) if t is not None]
        at, along = tuple(args[i] for i in moving), tuple(tangents[i] for i in moving)
        return jax.jvp(self._function_of(moving, args, params), at, along)[1]

    def _function_of(self, moving: Sequence[int], args: Any, params: Any) -> Callable[..., jax.Array]:
        """The function of the arguments ``moving`` alone."""

        def function(*values: jax.Array) -> jax.Array:
            moved = dict(zip(moving, values, strict=True))
            return self.implementation(*(moved.get(i, x) for i, x in enumerate(args)), **params)

        return function
