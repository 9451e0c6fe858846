"""Batched calls of LAPACK one after the other: on two cores those that run side by side can wait for ever.

In jax 0.10 such a call runs on a thread of XLA's pool, hands parts of its batch to the same pool and waits for them;
when all threads of the pool wait, nobody works. Newer versions (0.11.2 and later) compute a batch on one thread, and
their programs are left as they are.

Nothing but data makes XLA run one call after another: optimization barriers are gone by then. So where a call does not
need the one before, its operand is made to, by a condition that never holds and that XLA cannot see through. This is
done to the instructions of a program, where operations and their derivatives of every order stand in one row.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from linalgx._core.primitive import is_for_one_device

NEEDED = jax.__version_info__ < (0, 11, 2)
"""Whether the calls of this version must wait. Then the primitives that call LAPACK, and those that these calls stand
in, are lowered where they are used: JAX would lower each once, apart, and copy the instructions from there."""

in_any_order = jax.make_user_context(default_value=not NEEDED)
"""Context manager: whether rules leave out what only puts their calls in turn."""


def in_turn(lowering: Callable[..., Any]) -> Callable[..., Any]:
    """The lowering rule of a primitive that may call LAPACK, for the CPU.

    All batched calls that stand in the function that is being lowered are put in turn. Of the functions that this one
    calls (a jit inside a jit) each is put in order by itself. A program that runs on several devices is left as it is:
    these would have to tell each other when a call is done.
    """

    def lower(ctx: mlir.LoweringRuleContext, *args: Any, **params: Any) -> Any:
        results = lowering(ctx, *args, **params)
        if is_for_one_device(ctx):
            _Program(ctx.module_context.symbol_table).put_in_turn(ir.InsertionPoint.current.block)
        return results

    return lower if NEEDED else lowering


class _Program:
    """The instructions of a program, and the functions that they call. XLA will merge these into their callers."""

    def __init__(self, functions: ir.SymbolTable):
        self.functions = functions
        self.known: dict[str, bool] = {}  # whether a function calls LAPACK

    def put_in_turn(self, block: ir.Block) -> None:
        """Make each instruction that calls LAPACK need the one before it, also in branches and parts of loops."""
        instructions = list(block.operations)
        calls = [self.calls_lapack(instruction) for instruction in instructions]
        for instruction in itertools.compress(instructions, calls):
            for inner in itertools.chain.from_iterable(instruction.regions):
                self.put_in_turn(inner)
        if sum(calls) < 2:
            return
        before: Any = None
        needing: set[ir.Value] = set()  # what cannot be computed before the last call
        for instruction, is_call in zip(instructions, calls, strict=True):
            if is_call:
                if before is not None and not _waits(instruction, needing):
                    self.make_wait(instruction, before)
                before, needing = instruction, set()
            if before is not None:
                self.spread(needing, instruction)

    def calls_lapack(self, instruction: Any) -> bool:
        """Whether LAPACK is called with a batch: here, in a branch or loop of this instruction, or in what it calls."""
        if instruction.operation.name == "stablehlo.custom_call":
            target = ir.StringAttr(instruction.attributes["call_target_name"]).value
            return target.startswith("lapack_") and any(map(_is_batch, instruction.operands))
        if _is_function(instruction):
            name = _callee(instruction)
            if name not in self.known:
                self.known[name] = self.calls_lapack(self.functions[name])
            return self.known[name]
        return any(map(self.calls_lapack, _within(instruction)))

    def make_wait(self, instruction: Any, before: Any) -> None:
        """Make ``instruction`` need the one ``before``.

        Of branches the index stays as it is, lest those for other platforms could not be left out of the program.
        """
        if not _is_case(instruction):
            _make_wait(instruction, before)
            return
        for inner in filter(self.calls_lapack, _within(instruction)):
            self.make_wait(inner, before)

    def spread(self, needing: set[ir.Value], instruction: Any) -> None:
        """Add those results of ``instruction`` that need an operand which is in ``needing``, or a call of LAPACK."""
        if not _is_function(instruction):
            if _waits(instruction, needing) or self.calls_lapack(instruction):
                needing.update(instruction.results)
            return
        (body,) = self.functions[_callee(instruction)].regions[0]
        inner = {x for x, operand in zip(body.arguments, instruction.operands, strict=True) if operand in needing}
        for each in body:
            self.spread(inner, each)
        needing.update(x for x, result in zip(instruction.results, each.operands, strict=True) if result in inner)


def _is_function(instruction: Any) -> bool:
    """Whether it is the call of a function."""
    return bool(instruction.operation.name == "func.call")


def _callee(call: Any) -> str:
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


def _is_case(instruction: Any) -> bool:
    """Whether it has branches. What they read stands around them, and has to be there before it begins."""
    return bool(instruction.operation.name == "stablehlo.case")


def _within(instruction: Any) -> Iterator[Any]:
    """The instructions of its branches, or of the parts of a loop."""
    return (inner for region in instruction.regions for block in region for inner in block)


def _waits(instruction: Any, needing: set[ir.Value]) -> bool:
    """Whether it is computed after ``needing``; of a function that is certain if all arguments are."""
    if _is_function(instruction):
        return all(instruction.operands[i] in needing for i in _places(instruction))
    return _reads(instruction, needing)


def _reads(instruction: Any, values: set[ir.Value]) -> bool:
    inner = _within(instruction) if _is_case(instruction) else ()
    return any(x in values for x in instruction.operands) or any(_reads(each, values) for each in inner)


def _places(instruction: Any) -> list[int]:
    """The operands that can be made to wait: of a function no integer that may be a symbolic size, or the platform."""
    rank = 1 if _is_function(instruction) else 0
    operands = enumerate(instruction.operands)
    return [i for i, x in operands if _is_inexact(x) or (_is_integer(x) and len(_shape(x)) >= rank)]


def _make_wait(instruction: Any, before: Any) -> None:
    """Make one operand of ``instruction``, or all arguments of a function, need ``before``."""
    places = _places(instruction)
    if not _is_function(instruction):
        places.sort(key=lambda i: (_is_integer(instruction.operands[i]), math.prod(_shape(instruction.operands[i]))))
        places = places[:1]
    with ir.InsertionPoint(instruction), instruction.location:
        conditions = [_is_nan_and_positive(x) for x in before.results if _is_inexact(x)]
        for i in places if conditions else ():
            x = instruction.operands[i]
            never = functools.reduce(stablehlo.or_, conditions)
            instruction.operands[i] = stablehlo.select(never, stablehlo.negate(x), x)


def _is_nan_and_positive(x: ir.Value) -> ir.Value:
    """Whether the first entry of x is both."""
    rank = len(_shape(x))
    first = stablehlo.slice(x, [0] * rank, [1] * rank, [1] * rank)
    first = stablehlo.reshape(ir.RankedTensorType.get([], x.type.element_type), first)
    if isinstance(x.type.element_type, ir.ComplexType):
        first = stablehlo.real(first)
    zero = stablehlo.subtract(first, first)
    unequal, greater = map(stablehlo.ComparisonDirectionAttr.get, ("NE", "GT"))
    return stablehlo.and_(stablehlo.compare(first, first, unequal), stablehlo.compare(first, zero, greater))


def _shape(x: ir.Value) -> list[int]:
    """The lengths of the axes; that of a symbolic one is a large number."""
    return [abs(length) for length in x.type.shape] if isinstance(x.type, ir.RankedTensorType) else []


def _is_batch(x: ir.Value) -> bool:
    return _has_entries(x) and math.prod(_shape(x)[:-2]) > 1


def _is_inexact(x: ir.Value) -> bool:
    return _has_entries(x) and isinstance(x.type.element_type, ir.FloatType | ir.ComplexType)


def _is_integer(x: ir.Value) -> bool:
    return _has_entries(x) and isinstance(x.type.element_type, ir.IntegerType) and x.type.element_type.width > 1


def _has_entries(x: ir.Value) -> bool:
    return isinstance(x.type, ir.RankedTensorType) and math.prod(_shape(x)) > 0
