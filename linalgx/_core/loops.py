"""Where the loops of a compiled program end, over which parts of a batch they run, and what they may carry."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend import core
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import ad, batching, mlir, partial_eval

from linalgx._core.primitive import is_for_one_device, register


def _identity(name: str) -> Primitive:
    """A primitive that gives what it takes, and says something to the compiler."""
    primitive = Primitive(name)
    primitive.def_impl(lambda x, **params: x)
    primitive.def_abstract_eval(lambda x, **params: x)
    return primitive


materialise_p = _identity("materialise")
batching.primitive_batchers[materialise_p] = lambda args, axes, **params: (materialise_p.bind(*args, **params), axes[0])
ad.deflinear(materialise_p, lambda cotangent, **params: [cotangent])


def materialise(x: jax.Array, *, if_moved: bool = True) -> jax.Array:
    """The same array, but computed once and kept in memory: for a value that several later steps read.

    What lies in memory along the batch is not copied; without ``if_moved`` only what is seen to be computed is.

    XLA's compiler for the CPU computes a value anew in every loop that reads it, and a chain of such values anew at
    every link: the cost grows exponentially with its length. ``lax.optimization_barrier`` is gone by the time that it
    makes these loops. A conditional is not, if its predicate is a value that the compiler does not know.
    """
    return materialise_p.bind(x, if_moved=if_moved)


def _conditional(x: jax.Array) -> jax.Array:
    never = lax.optimization_barrier(jnp.float32(0)) > 1
    other = lax.neg if jnp.issubdtype(x.dtype, jnp.inexact) else lax.bitwise_not
    return lax.cond(never, other, lambda x: x, x)


def _materialise(ctx: mlir.LoweringRuleContext, x: ir.Value, if_moved: bool) -> Any:
    if if_moved:
        kept = _is_in_memory(x) and not _is_called(ctx)
    else:
        # what comes from outside of a function that is compiled by itself is taken for not computed
        kept = all(isinstance(source, ir.Block) or _ends_loops(source) for source in _origins(x, _moves))
    return [x] if kept else mlir.lower_fun(_conditional, multiple_results=False)(ctx, x)


def _is_in_memory(x: ir.Value) -> bool:
    """Whether the entries of x lie in memory anyway, along the batch: in results that end loops, or parts of them."""
    return all(map(_ends_loops, _origins(x, _is_view)))


def _moves(instruction: Any) -> bool:
    """Whether each entry is one of an operand."""
    return instruction.name in _VIEWS


def _is_view(instruction: Any) -> bool:
    """Whether each entry is one of an operand, and the batch lies as it does there."""
    if instruction.name == "stablehlo.transpose":
        order = list(ir.DenseI64ArrayAttr(instruction.attributes["permutation"]))
        return bool(order[-1] == len(order) - 1)
    return _moves(instruction)


_VIEWS = tuple(f"stablehlo.{name}" for name in ("broadcast_in_dim", "reshape", "slice", "concatenate", "transpose"))


def _ends_loops(source: Any) -> bool:
    """Whether XLA has what comes from there in memory: no loop computes it where it is read."""
    if isinstance(source, ir.Block):
        return _is_of_program(source)
    return source.name in ("stablehlo.case", "stablehlo.while") or _is_lapack(source) or _is_kernel(source)


def _is_lapack(source: Any) -> bool:
    """Whether LAPACK computes it."""
    name = source.attributes["call_target_name"] if source.name == "stablehlo.custom_call" else None
    return name is not None and str(ir.StringAttr(name).value).startswith("lapack_")


def _origins(x: ir.Value, passes: Callable[[Any], bool]) -> Iterator[Any]:
    """Where x comes from: instructions, or the blocks of arguments, behind those that it ``passes``."""
    reached, known = [x], {x}
    for value in reached:
        source = value.owner
        if not isinstance(source, ir.Block) and passes(source):
            new = [operand for operand in source.operands if operand not in known]
            reached += new
            known.update(new)
        else:
            yield source


def _is_of_program(block: ir.Block) -> bool:
    """Whether the arguments of a block are those of the program."""
    function = block.owner.operation
    return bool(function.name == "func.func" and ir.StringAttr(function.attributes["sym_name"]).value == "main")


def _is_kernel(instruction: Any) -> bool:
    """Whether it is the call of a function that stays one: see :func:`_in_one_kernel`."""
    return instruction.name == "func.call" and "mhlo.frontend_attributes" in instruction.attributes


register(materialise_p, lambda ctx, x, **params: [x], cpu=_materialise)


PART = 128
"""The members of a batch that are worked on together: with what is made of them they stay in the nearest caches."""

EVEN = 16
"""What divides the size of a part: a number of vectors of the processor, of every dtype."""


many_threads = jax.make_user_context(default_value=False)
"""Context manager: whether a program is for a platform that has a thread for each member of a batch, as a GPU has."""

undivided = jax.make_user_context(default_value=False)
"""Context manager: whether a program is to leave batches whole, as XLA shares them out among devices."""


def in_parts(function: Callable[..., Any], *args: jax.Array) -> Any:
    """``function(*args)``, computed for about PART members of the batch at a time, by one kernel.

    What the function materialises then stays in the cache, and its memory does not grow with the batch. A symbolic
    batch (of an exported program), any on many threads, and any on several devices is computed at once.
    """
    batch = args[0].shape[-1]
    if _is_left_whole(args):
        return function(*args)
    # where there is no loop, XLA may share out a step among cores, which it cannot inside a kernel
    number = max(-(-batch // PART), min(2, -(-batch // (2 * EVEN))))
    size = batch if number <= 1 else -(-batch // (number * EVEN)) * EVEN
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*(x[..., :size] for x in args))
    # a kernel with an argument that it does not use makes XLA's compiler end the process
    needed, used = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))
    if not any(used):
        return function(*args)
    step = core.jaxpr_as_fun(core.ClosedJaxpr(needed, program.consts))
    kernel = step if number <= 1 else functools.partial(_part_by_part, step, number, size)
    operands = list(itertools.compress(args, used))
    if len(operands) > 1:
        # so does one that is a constant, beside one that is not
        operands = [not_constant_p.bind(x) for x in operands]
    return jax.tree.unflatten(jax.tree.structure(shapes), _in_one_kernel(kernel)(*operands))


def _is_left_whole(args: Sequence[jax.Array]) -> bool:
    """Whether a batch is not divided: on many threads, on several devices, and a symbolic one."""
    sizes = (size for x in args for size in x.shape)
    return many_threads.value or are_shared_out(args) or not all(isinstance(s, int) for s in sizes)


def are_shared_out(args: Sequence[jax.Array]) -> bool:
    """Whether arrays lie on several devices."""
    return undivided.value or any(axis for x in args for axis in jax.typeof(x).sharding.spec)


not_constant_p = _identity("not_constant")


def _not_constant(ctx: mlir.LoweringRuleContext, x: ir.Value) -> Any:
    never_constant = _is_unknown(x, _is_called(ctx))
    return [x] if never_constant else mlir.lower_fun(_conditional, multiple_results=False)(ctx, x)


register(not_constant_p, lambda ctx, x: [x], cpu=_not_constant)


def _is_unknown(x: ir.Value, is_called: bool) -> bool:
    """Whether XLA cannot find any entry of x to be a constant, however it simplifies what x is computed from."""
    found: dict[ir.Value, bool] = {}
    waiting = [x]
    while waiting:
        decide, operands = _what_decides(waiting[-1], is_called)
        missing = next((operand for operand in operands if operand not in found), None)
        # any is settled by one that is unknown, all by one that may not be
        settled = any(found.get(operand) is (decide is any) for operand in operands)
        if settled or missing is None:
            found[waiting.pop()] = decide(found.get(operand, decide is not any) for operand in operands)
        else:
            waiting.append(missing)
    return found[x]


def _what_decides(x: ir.Value, is_called: bool) -> tuple[Callable[..., bool], Sequence[ir.Value]]:
    """Which operands of the instruction behind x are to be unknown, all or any of them, if x is.

    All of none is true: nobody looks behind a call of LAPACK, a barrier, or a function that stays one.
    """
    source, type_ = x.owner, x.type
    if not isinstance(type_, ir.RankedTensorType) or math.prod(type_.shape) == 0:
        return any, ()
    if isinstance(source, ir.Block):
        return (all if _is_of_program(source) and not is_called else any), ()
    name, operands = source.name.removeprefix("stablehlo."), list(source.operands)
    if name == "optimization_barrier" or _is_lapack(source) or _is_kernel(source):
        return all, ()
    if name in ("case", "slice", "dynamic_slice", "gather"):
        return all, operands[:1]
    if name in _MOVES:
        return all, operands
    # integers that cancel are found to be zero, and a loop of one turn is taken for what it makes
    if name in ("while", "func.call") or not operands or not all(map(_is_floating, operands)):
        return any, ()
    if name in _ARITHMETIC:
        return any, operands
    return all, operands[:1] if name == "reduce" else operands


def _is_floating(x: ir.Value) -> bool:
    return isinstance(x.type, ir.RankedTensorType) and isinstance(x.type.element_type, ir.FloatType | ir.ComplexType)


_MOVES = ("transpose", "reshape", "broadcast_in_dim", "reverse", "concatenate", "select", "convert")
"""Instructions whose entries are those of their operands."""

_ARITHMETIC = (
    *("add", "subtract", "multiply", "divide", "negate", "abs", "sqrt", "rsqrt", "exponential", "log", "dot_general"),
    "compare",
)
"""Instructions of which each entry depends on an entry of each operand, whatever the others are."""


def _is_called(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether the program becomes part of another: that which is exported does, where it is called."""
    return bool(ctx.module_context.lowering_parameters.for_export)


def _part_by_part(
    function: Callable[..., list[jax.Array]], number: int, size: int, A: jax.Array, *others: jax.Array
) -> list[jax.Array]:
    """``function(A, *others)`` in a loop over a number of parts of one size.

    The last one overlaps the one before if that does not divide the batch: slices that reach over the end are moved
    back. The first result that is like A is written over it.
    """

    def part(x: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(x, i * size, size, -1)

    # the last part, of which the one before may write over some
    end = materialise(part(A, jnp.int32(number - 1)))
    shapes = jax.eval_shape(function, end, *(x[..., :size] for x in others))
    place = next((k for k, s in enumerate(shapes) if (s.shape, s.dtype) == (end.shape, end.dtype)), None)

    def step(i: jax.Array, outs: list[jax.Array]) -> list[jax.Array]:
        source = A if place is None else outs[place]
        first = lax.cond(i == number - 1, lambda source: end, lambda source: part(source, i), source)
        results = function(first, *(materialise(part(x, i)) for x in others))
        return [
            lax.dynamic_update_slice_in_dim(out, materialise(result), i * size, -1)
            for out, result in zip(outs, results, strict=True)
        ]

    outs = [varying_alike([A, jnp.zeros((*s.shape[:-1], A.shape[-1]), s.dtype)])[1] for s in shapes]
    outs = [A if k == place else out for k, out in enumerate(outs)]
    return list(lax.fori_loop(jnp.int32(0), jnp.int32(number), step, outs))


def _in_one_kernel(function: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
    """The function, which XLA's compiler for the CPU makes one kernel of, for one core.

    Else each loop of a program is a kernel of its own, and starting it takes as long as the work on a part. XLA does so
    by itself with small loops (``xla_cpu_small_call``); a compiler that does not know the attributes of the call leaves
    the function as it is.
    """

    def run(*args: jax.Array) -> list[jax.Array]:
        first, *others = jax.jit(function)(*args)
        # this marks what gives the first result: the call
        return [set_xla_metadata(first, inlineable="false", xla_cpu_small_call="true"), *others]

    return run


def replaced(wanted: jax.Array, function: Callable[..., Any], values: Sequence[jax.Array]) -> list[jax.Array]:
    """``function(*values)`` if ``wanted``, one flag, is true, or else the ``values``.

    Both lie in the same memory; what a conditional gives lies beside its arguments. What else the function reads stays
    in memory, too: a scaled matrix is better made twice.
    """

    def replace(state: tuple[jax.Array, ...]) -> Any:
        flag, *values = state
        return varying_alike([flag & False, *function(*values)])

    return list(lax.while_loop(lambda state: state[0], replace, varying_alike([wanted, *values]))[1:])


RUN, GROUP = 128, 1024
"""The rows of the neighbouring matrices, and of the matrices in all, that :func:`replaced_members` takes together: one
may be alone among them; but to look for runs takes less time than for members, and each group is one more turn."""


def replaced_members(
    wanted: jax.Array,
    function: Callable[..., Sequence[jax.Array]],
    args: Sequence[jax.Array],
    values: Sequence[jax.Array],
    *,
    batch_last: bool = False,
) -> list[jax.Array]:
    """The ``values``, but those of ``function(*args)`` for the members of a batch of matrices that are ``wanted``.

    The batch is the first axes of all arrays, or the last one. On one CPU device the function is computed for these
    members alone, group by group, and elsewhere for all if one is wanted.
    """
    leading = wanted.ndim

    def at_once(*old: jax.Array) -> list[jax.Array]:
        new = list(function(*args))
        if leading == 0:
            return new
        flags = [wanted if batch_last else jnp.expand_dims(wanted, range(leading, x.ndim)) for x in old]
        return [jnp.where(flag, x, y) for flag, x, y in zip(flags, new, old, strict=True)]

    if not _is_left_whole([wanted, *args, *values]):
        rows = max(1, *(args[0].shape[:-1] if batch_last else args[0].shape[leading:]))
        run = max(1, RUN // rows)  # members
        group = max(2, GROUP // (run * rows))  # runs
        if wanted.size > run * group:
            return _group_by_group(wanted, function, args, values, run, group, batch_last)
    return replaced(jnp.any(wanted), at_once, values)


def _group_by_group(
    wanted: jax.Array,
    function: Callable[..., Sequence[jax.Array]],
    args: Sequence[jax.Array],
    values: Sequence[jax.Array],
    run: int,
    group: int,
    batch_last: bool,
) -> list[jax.Array]:
    """:func:`replaced_members`, in a loop over the runs that have one, some at a time."""

    def one_axis(x: jax.Array) -> jax.Array:
        return x if batch_last else x.reshape(wanted.size, *x.shape[wanted.ndim :])

    def place(members: jax.Array) -> Any:
        return (..., members) if batch_last else members

    def step(state: tuple[jax.Array, ...]) -> list[jax.Array]:
        i, *old = state
        # the last group overlaps the one before where it reaches over the end: it computes some once more
        first = run * lax.dynamic_slice_in_dim(runs, i * group, group)
        members = (first[:, None] + jnp.arange(run, dtype=jnp.int32)[None]).ravel()
        new = function(*(one_axis(x).at[place(members)].get(mode="clip") for x in args))
        kept = place(jnp.where(wanted.ravel().at[members].get(mode="clip"), members, wanted.size))
        return varying_alike([i + 1, *(x.at[kept].set(y, mode="drop") for x, y in zip(old, new, strict=True))])

    number = -(-wanted.size // run)
    flags = jnp.any(jnp.pad(wanted.ravel(), (0, number * run - wanted.size)).reshape(number, run), axis=-1)
    # the numbers of the runs with a member that is wanted, and behind them that of none
    runs = jnp.sort(jnp.where(flags, jnp.arange(number, dtype=jnp.int32), number))
    count = jnp.sum(flags, dtype=jnp.int32)
    start = varying_alike([jnp.zeros_like(count), *map(one_axis, values)])
    _, *new = lax.while_loop(lambda state: state[0] * group < count, step, start)
    return [x.reshape(old.shape) for x, old in zip(new, values, strict=True)]


as_it_lies_p = _identity("as_it_lies")


def as_it_lies(x: jax.Array) -> jax.Array:
    """The same array, to be read in a loop, as JAX's arrays lie: row by row.

    XLA would else carry a copy through the loop, in the order in which its first reader takes it. It may do so in a
    program on several devices, which would be gathered for this, and in one that is exported, which must not say such
    things.
    """
    return as_it_lies_p.bind(x)


def _as_it_lies(ctx: mlir.LoweringRuleContext, x: ir.Value) -> Any:
    if not is_for_one_device(ctx) or ctx.module_context.lowering_parameters.for_export:
        return [x]
    lower = mlir.lower_fun(lambda x: with_layout_constraint(x, Layout(tuple(range(x.ndim)))), multiple_results=False)
    return lower(ctx, x)


register(as_it_lies_p, _as_it_lies)


def varying_alike(args: Any) -> Any:
    """The arguments of a primitive, or what a loop carries: inside shard_map they must vary over the same mesh axes.

    The transpose of this sums.
    """
    varying = [jax.typeof(x).manual_axis_type.varying for x in args]
    union = frozenset().union(*varying)
    if all(axes == union for axes in varying):
        return args
    return [
        jax.lax.pcast(x, tuple(union - axes), to="varying") if union - axes else x
        for x, axes in zip(args, varying, strict=True)
    ]
