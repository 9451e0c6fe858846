"""What all primitives of the package share: how they run outside of a program, and what they give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir


def new_primitive(name: str, function: Callable[..., Any], *, multiple_results: bool) -> Primitive:
    """A primitive with the results of ``function``: outside of a program it runs as one of its own."""
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results

    def evaluate(*args: Any, **params: Hashable) -> Any:
        # as the primitives of JAX do: under jax.disable_jit, too, they are what is compiled
        with jax.disable_jit(False):
            return _program(primitive, tuple(params.items()))(*args)

    def abstract(*avals: Any, **params: Any) -> Any:
        # make_jaxpr and not eval_shape: it keeps shardings and the varying axes of shard_map
        out_avals = jax.make_jaxpr(functools.partial(function, **params))(*avals).out_avals
        return list(out_avals) if multiple_results else out_avals[0]

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(abstract)
    return primitive


@functools.lru_cache(maxsize=4096)
def _program(primitive: Primitive, params: tuple[tuple[str, Hashable], ...]) -> Callable[..., Any]:
    return jax.jit(lambda *args: primitive.bind(*args, **dict(params)))


def is_for_one_device(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether the program that is being lowered runs on one device."""
    return getattr(ctx.module_context.axis_context, "num_devices", None) == 1


def is_shared_out(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether XLA shares the program that is being lowered out among devices; inside shard_map the user has done so."""
    context = ctx.module_context.axis_context
    axes, manual = getattr(getattr(context, "mesh", None), "axis_names", None), getattr(context, "manual_axes", ())
    return not is_for_one_device(ctx) and (axes is None or set(manual) != set(axes))
