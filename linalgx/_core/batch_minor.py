"""A vmap whose batch axis is the last one, and stays the last one.

JAX's batching rules move the batch to the front wherever a batched array meets one that is not, and in every matrix
product. For many small matrices these moves are most of the cost: with the batch on the last, contiguous axis, each
entry of a matrix is one long vector, and code on these vectors runs at the speed of memory. :func:`batch_minor` traces
a function of one problem and evaluates it with one more axis at the end of every array; what it has no rule for goes
through :func:`jax.vmap`, so that it knows every function that vmap knows.
"""

from __future__ import annotations

import collections
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.sharding import NamedSharding, PartitionSpec

from linalgx._core.loops import materialise

SMALL = 8
"""The longest axis of a problem that counts as small: whose batch is kept last."""

LARGEST = 12
"""The longest axis of what batch-minor kernels take: above SMALL the batch stays in front of them and behind."""


def extent(size: Any) -> int:
    """The length of an axis, for a choice by it: a symbolic one stands for a large one."""
    return size if isinstance(size, int) else 1000


def is_small(shapes: Sequence[Sequence[int]], longest: int = SMALL) -> bool:
    """Whether no axis of a problem with arguments of these shapes is longer, nor empty."""
    return all(1 <= extent(size) <= longest for shape in shapes for size in shape)


def batch_minor(function: Callable[..., Any], axes: Any = -1) -> Callable[..., Any]:
    """``jax.vmap(function, in_axes=axes, out_axes=-1)`` where axes are -1 or None, with the batch last all the way.

    Static parameters come by keyword.
    """

    def batched(*args: Any, **params: Any) -> Any:
        member = functools.partial(function, **params)
        traced: list[tuple[core.ClosedJaxpr, Any]] = []

        def trace(*members: Any) -> None:
            traced.append(jax.make_jaxpr(member, return_shape=True)(*members))

        # the members of a vmap have the types, with shardings and varying axes, that tracing needs
        jax.eval_shape(jax.vmap(trace, in_axes=axes), *args)
        ((jaxpr, shapes),) = traced
        flags = _broadcast_prefix(axes, args)
        leaves = jax.tree.leaves(args)
        like = next(x for x, flag in zip(leaves, flags, strict=True) if flag)
        values = _evaluate(jaxpr, [_Value(x, flag) for x, flag in zip(leaves, flags, strict=True)])
        return jax.tree.unflatten(jax.tree.structure(shapes), [value.spread(like) for value in values])

    return batched


def _broadcast_prefix(axes: Any, args: Any) -> list[bool]:
    """For each leaf of ``args`` whether ``axes``, a prefix of their tree, maps it."""
    prefix = axes if isinstance(axes, tuple) else (axes,) * len(args)
    flags = jax.tree.map(
        lambda axis, part: jax.tree.map(lambda _: axis is not None, part), prefix, args, is_leaf=lambda x: x is None
    )
    return jax.tree.leaves(flags)


class _Value:
    """An array of the evaluation.

    Attributes:
        array: the array.
        batched: whether its last axis is the batch; an array without a batch serves all members.
        work: the operations that computing an entry once more takes, for a compiler that fuses all it can; 0 for what
            is in memory.
    """

    def __init__(self, array: Any, batched: bool, work: int = 0):
        self.array, self.batched, self.work = array, batched, work

    def spread(self, like: jax.Array) -> jax.Array:
        """The array with the batch axis of ``like``."""
        if self.batched:
            return self.array
        return _broadcast(jnp.expand_dims(self.array, -1), (*jnp.shape(self.array), like.shape[-1]), like)

    def kept(self) -> _Value:
        """The value for one who reads each entry several times."""
        if not self.batched or self.work <= WORTH_KEEPING:
            return self
        return _Value(materialise(self.array), True)


def _broadcast(x: jax.Array, shape: tuple[int, ...], like: jax.Array) -> jax.Array:
    """``x`` broadcast along its axes; an explicit mesh shares out the last one as it does the batch of ``like``."""
    sharding = jax.typeof(like).sharding
    if sharding.spec[-1] is None or jnp.shape(x) == shape:
        return jnp.broadcast_to(x, shape)
    spec = PartitionSpec(*jax.typeof(x).sharding.spec[:-1], sharding.spec[-1])
    return jnp.broadcast_to(x, shape, out_sharding=NamedSharding(sharding.mesh, spec))


WORTH_KEEPING = 16
"""The work above which a value that is read several times is kept in memory rather than computed again."""

UNKNOWN = 1000
"""The work behind the result of an operation, which can be anything: it is kept if it is read several times."""


def _evaluate(whole: core.ClosedJaxpr, inputs: Sequence[_Value]) -> list[_Value]:
    """The outputs of a program for one problem, on values with a batch."""
    program = whole.jaxpr
    known = dict(zip(program.constvars, (_Value(x, False) for x in whole.consts), strict=True))
    known |= dict(zip(program.invars, inputs, strict=True))
    uses = collections.Counter(
        atom
        for equation in program.eqns
        if equation.primitive.name not in _VIEWS
        for atom in equation.invars
        if not isinstance(atom, core.Literal)
    )
    uses.update(atom for atom in program.outvars if not isinstance(atom, core.Literal))

    def read(atom: Any) -> _Value:
        if isinstance(atom, core.Literal):
            return _Value(np.asarray(atom.val, atom.aval.dtype), False)  # type: ignore[attr-defined]
        return known[atom]

    for equation in program.eqns:
        outputs = _apply(equation.primitive, [read(atom) for atom in equation.invars], equation.params)
        for variable, value in zip(equation.outvars, outputs, strict=True):
            known[variable] = value.kept() if uses[variable] > 1 else value
    return [read(atom) for atom in program.outvars]


def _apply(primitive: Any, values: list[_Value], params: dict[str, Any]) -> list[_Value]:
    """One step of the program, by its rule or through vmap."""
    name = primitive.name
    batched = any(value.batched for value in values)
    if batched and name in CALLS:
        return _evaluate(closed(params[CALLS[name]]), values)
    if batched and name in _RULES:
        if name == "dot_general":
            values = [value.kept() for value in values]
        result = _RULES[name](primitive, values, **params)
        return [_Value(result, True, _work(name, values, params))]
    step = functools.partial(primitive.bind, **params)
    if batched:
        values = [value.kept() for value in values]
        axes = [jnp.ndim(value.array) - 1 if value.batched else None for value in values]
        step = jax.vmap(step, in_axes=axes, out_axes=-1)
    results = step(*(value.array for value in values))
    return [_Value(r, batched, UNKNOWN) for r in (results if primitive.multiple_results else [results])]


def closed(program: Any) -> core.ClosedJaxpr:
    """A program with its constants, of which there may be none."""
    return program if isinstance(program, core.ClosedJaxpr) else core.ClosedJaxpr(program, ())


def _work(name: str, values: list[_Value], params: dict[str, Any]) -> int:
    """The work of an entry of a result: that of the entries it is made of, and its own."""
    if name in _VIEWS:
        # each entry is taken from one of them
        return max(value.work for value in values if value.batched)
    work = sum(value.work for value in values if value.batched)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return math.prod(values[0].array.shape[i] for i in contracted) * (work + 2)
    if name in FOLDS:
        return math.prod(values[0].array.shape[i] for i in params["axes"]) * (work + 1)
    return work + 1


def _a_batch(values: list[_Value]) -> jax.Array:
    return next(value.array for value in values if value.batched)


# --- rules: (primitive, values, **parameters of one problem) -> array with the batch last


def _elementwise(primitive: Any, values: list[_Value], **params: Any) -> jax.Array:
    """Operands have the same rank, in which axes of length one broadcast; a scalar goes with any."""
    rank = max(jnp.ndim(value.array) - value.batched for value in values)
    scalars = primitive.name not in ("select_n", "complex")

    def expanded(value: _Value) -> Any:
        if jnp.ndim(value.array) == 0 and scalars:
            return value.array
        x = value.array if value.batched else jnp.expand_dims(value.array, -1)
        return x.reshape(*(1,) * (rank + 1 - x.ndim), *x.shape)

    operands = [expanded(value) for value in values]
    shape, like = lax.broadcast_shapes(*(jnp.shape(x) for x in operands)), _a_batch(values)
    return primitive.bind(*(_broadcast(x, shape, like) if jnp.ndim(x) else x for x in operands), **params)


def _same_axes(primitive: Any, values: list[_Value], **params: Any) -> jax.Array:
    """Axes are counted from the front, where the batch changes nothing."""
    like = _a_batch(values)
    return primitive.bind(*(value.spread(like) for value in values), **params)


def _fold(primitive: Any, values: list[_Value], *, axes: Sequence[int], **params: Any) -> jax.Array:
    x = values[0].array
    if math.prod(x.shape[axis] for axis in axes) == 0:
        return primitive.bind(x, axes=axes, **params)
    return fold(FOLDS[primitive.name], x, axes)


def itself(x: jax.Array) -> jax.Array:
    """The array as it is."""
    return x


def fold(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    axes: Sequence[int],
    of: Callable[[jax.Array], jax.Array] = itself,
) -> jax.Array:
    """The reduction of ``of(x)`` over short axes, pairwise: XLA's own is slow on the CPU, and a loop by itself.

    What is reduced is computed of parts of x: two parts of a computed array would be computed before.
    """
    axes = [axis % x.ndim for axis in axes]
    moved = lax.transpose(x, (*axes, *(i for i in range(x.ndim) if i not in axes)))
    terms = moved.reshape(math.prod(moved.shape[: len(axes)]), *moved.shape[len(axes) :])
    odd = []
    while terms.shape[0] > 1:
        half = terms.shape[0] // 2
        if terms.shape[0] % 2:
            odd.append(of(terms[-1]))
        terms, of = combine(of(terms[:half]), of(terms[half : 2 * half])), itself
    return functools.reduce(combine, reversed(odd), of(terms[0]))


def _transpose(primitive: Any, values: list[_Value], *, permutation: Sequence[int]) -> jax.Array:
    return lax.transpose(values[0].array, (*permutation, len(permutation)))


def _reshape(primitive: Any, values: list[_Value], *, new_sizes: Sequence[int], **_: Any) -> jax.Array:
    return lax.reshape(values[0].array, (*new_sizes, values[0].array.shape[-1]))


def _broadcast_in_dim(
    primitive: Any, values: list[_Value], *, shape: Sequence[int], broadcast_dimensions: Sequence[int], **_: Any
) -> jax.Array:
    x = values[0].array
    return lax.broadcast_in_dim(x, (*shape, x.shape[-1]), (*broadcast_dimensions, len(shape)))


def _slice(
    primitive: Any, values: list[_Value], *, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Any
) -> jax.Array:
    x = values[0].array
    strides = None if strides is None else (*strides, 1)
    return lax.slice(x, (*start_indices, 0), (*limit_indices, x.shape[-1]), strides)


def _pad(primitive: Any, values: list[_Value], *, padding_config: Sequence[Any]) -> jax.Array:
    x, padding = values
    if padding.batched:
        step = functools.partial(primitive.bind, padding_config=padding_config)
        return jax.vmap(step, [-1 if v.batched else None for v in values], -1)(x.array, padding.array)
    return lax.pad(x.array, padding.array, (*padding_config, (0, 0, 0)))


def _dot_general(primitive: Any, values: list[_Value], *, dimension_numbers: Any, **_: Any) -> jax.Array:
    """A sum of outer products, in plain arithmetic: XLA's batched product of small matrices is slow on the CPU."""
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    a, b = (jnp.expand_dims(value.array, -1) if not value.batched else value.array for value in values)
    free_a = [i for i in range(a.ndim - 1) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(b.ndim - 1) if i not in (*contract_b, *batch_b)]
    # axes: contracted, batch axes of the product, free axes of a, free axes of b; then the batch
    a = lax.transpose(a, (*contract_a, *batch_a, *free_a, a.ndim - 1))
    b = lax.transpose(b, (*contract_b, *batch_b, *free_b, b.ndim - 1))
    first = len(contract_a) + len(batch_a)
    a = jnp.expand_dims(a, tuple(range(first + len(free_a), first + len(free_a) + len(free_b))))
    b = jnp.expand_dims(b, tuple(range(first, first + len(free_a))))
    if not contract_a:
        return a * b
    contracted = math.prod(a.shape[: len(contract_a)])
    a, b = (x.reshape(contracted, *x.shape[len(contract_a) :]) for x in (a, b))
    return functools.reduce(operator.add, (a[i] * b[i] for i in range(contracted)))


CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
ELEMENTWISE = frozenset(
    """
    add sub mul div neg sign abs max min pow integer_pow sqrt rsqrt square exp exp2 expm1 log log1p select_n
    eq ne lt le gt ge and or not is_finite convert_element_type real imag conj complex copy
    """.split()
)
FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "reduce_sum": jnp.add,
    "reduce_prod": jnp.multiply,
    "reduce_max": jnp.maximum,
    "reduce_min": jnp.minimum,
    "reduce_and": lax.bitwise_and,
    "reduce_or": lax.bitwise_or,
}
_VIEWS = {"transpose", "reshape", "broadcast_in_dim", "slice", "squeeze", "concatenate", "stack", "pad", "rev", "copy"}
_RULES: dict[str, Callable[..., jax.Array]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("concatenate", "stack", "squeeze", "cumsum", "cumprod", "rev"), _same_axes),
    **dict.fromkeys(FOLDS, _fold),
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
    "pad": _pad,
    "dot_general": _dot_general,
}
