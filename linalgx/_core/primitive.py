"""What all primitives of the package share: how they run outside of a program, and what they give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from jax import lax
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


Rule = Callable[..., Any]
"""A lowering rule: of a context, the operands in the program, and static parameters by keyword."""


def register(
    primitive: Primitive,
    default: Rule,
    *,
    cacheable: bool = False,
    in_order: Callable[[Rule], Rule] = lambda rule: rule,
    **on: Rule,
) -> None:
    """Register the lowering rules of a primitive, by platform.

    Of one that is cacheable JAX keeps what the rule has written, apart; others write where the primitive stands. To JAX
    the rules of these are one, which chooses: among several, in a program for several platforms, its own choice fails
    in jax 0.10 to 0.12. The rule that writes for several is given to ``in_order``.
    """
    if cacheable:
        mlir.register_lowering(primitive, default)
        for platform, rule in on.items():
            mlir.register_lowering(primitive, rule, platform=platform)
        return

    def choose(ctx: mlir.LoweringRuleContext, *args: Any, **params: Any) -> Any:
        chosen: dict[Rule, tuple[str, ...]] = {}
        for platform in _platforms(ctx):
            rule = on.get(platform, default)
            chosen[rule] = (*chosen.get(rule, ()), platform)
        if len(chosen) > 1:
            return in_order(functools.partial(_branches, rules=chosen, params=params))(ctx, *args)
        return next(iter(chosen))(ctx, *args, **params)

    mlir.register_lowering(primitive, choose, cacheable=False)


def _platforms(ctx: mlir.LoweringRuleContext) -> Sequence[str]:
    """The platforms that an instruction is lowered for."""
    if getattr(ctx.jaxpr_eqn_ctx, "compute_type", None) == "device_host":
        return ("cpu",)
    return ctx.platforms or ctx.module_context.platforms


def _branches(
    ctx: mlir.LoweringRuleContext, *args: Any, rules: dict[Rule, tuple[str, ...]], params: dict[str, Any]
) -> Any:
    """What each rule writes, in a branch for its platforms."""
    results, static = tuple(ctx.avals_out), tuple(params.items())
    branches: dict[str, Callable[..., Any]] = {}
    for rule, platforms in rules.items():
        part = functools.partial(_part_p.bind, rule=rule, platforms=platforms, results=results, params=static)
        branches |= dict.fromkeys(platforms, part)
    return mlir.lower_fun(functools.partial(lax.platform_dependent, **branches), multiple_results=True)(ctx, *args)


_part_p = Primitive("linalgx_part")
_part_p.multiple_results = True
_part_p.def_abstract_eval(lambda *_, results, **__: list(results))


def _part(
    ctx: mlir.LoweringRuleContext, *args: Any, rule: Rule, platforms: tuple[str, ...], params: Any, **_: Any
) -> Any:
    return rule(ctx.replace(platforms=platforms), *args, **dict(params))


mlir.register_lowering(_part_p, _part, cacheable=False)


def is_for_one_device(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether the program that is being lowered runs on one device."""
    return getattr(ctx.module_context.axis_context, "num_devices", None) == 1


def is_shared_out(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether XLA shares the program that is being lowered out among devices; inside shard_map the user has done so."""
    context = ctx.module_context.axis_context
    axes, manual = getattr(getattr(context, "mesh", None), "axis_names", None), getattr(context, "manual_axes", ())
    return not is_for_one_device(ctx) and (axes is None or set(manual) != set(axes))
