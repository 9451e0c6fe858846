"""The linear half of a derivative rule, as one primitive that batches, differentiates and transposes.

``apply(linear_map, residuals, inputs)`` runs ``push`` on the residuals that the nonlinear half left behind. Its
transpose is the same primitive with ``push`` and ``pull`` exchanged, so that reverse mode runs the hand-written
``pull`` on exactly those residuals; its derivative with respect to the residuals is that of the code of ``push``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from linalgx._core.batch_minor import batch_minor, is_small
from linalgx._core.in_turn import NEEDED, in_any_order, in_turn
from linalgx._core.loops import materialise
from linalgx._core.primitive import new_primitive, register

Sides = Sequence[jax.Array | None]


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """A map that is linear in its inputs, and its adjoint in the pairing of JAX (no conjugate).

    Both take ``(residuals, sides)`` and give the other side: lists of full length, in which None stands for an
    entry that is zero or not differentiable. ``inputs`` and ``outputs`` tell which entries are alive, that is,
    which of them the primitive takes and gives. ``batched`` is not None where the map is one of many small problems,
    with the batch on the last axis of all inputs, outputs, and those residuals for which it is true (see
    :mod:`linalgx._core.batch_minor`).
    """

    push: Callable[[Sequence[jax.Array], Sides], Sides]
    pull: Callable[[Sequence[jax.Array], Sides], Sides]
    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    batched: tuple[bool, ...] | None = None

    @property
    def transpose(self) -> LinearMap:
        return LinearMap(self.pull, self.push, self.outputs, self.inputs, self.batched)

    def restrict(self, alive: Sequence[bool]) -> LinearMap:
        """The map on those of its living inputs for which ``alive`` is true."""
        kept = iter(alive)
        return dataclasses.replace(self, inputs=tuple(i and next(kept) for i in self.inputs))

    def batch(self, axes: tuple[int | None, ...]) -> LinearMap:
        """The map over a batch: axis ``axes[i]`` of the i-th residual, axis 0 of all inputs and outputs."""
        return dataclasses.replace(self, push=_Batched(self.push, axes), pull=_Batched(self.pull, axes))

    def batch_last(self, batched: tuple[bool, ...]) -> LinearMap:
        """The map over a batch on the last axis of the flagged residuals and of all inputs and outputs."""
        return dataclasses.replace(self, batched=batched)

    def __call__(self, residuals: Sequence[jax.Array], living: Sequence[jax.Array]) -> list[jax.Array]:
        given = iter(living)
        push = self.push
        if self.batched is not None:
            push = batch_minor(push, ([-1 if flag else None for flag in self.batched], -1))
        results = push(list(residuals), [next(given) if alive else None for alive in self.inputs])
        return [result for result, alive in zip(results, self.outputs, strict=True) if alive]  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"{self.push}"


@dataclasses.dataclass(frozen=True)
class _Batched:
    function: Callable[[Sequence[jax.Array], Sides], Sides]
    axes: tuple[int | None, ...]

    def __call__(self, residuals: Sequence[jax.Array], sides: Sides) -> Sides:
        return jax.vmap(self.function, in_axes=(list(self.axes), 0))(list(residuals), list(sides))

    def __repr__(self) -> str:
        return f"vmap({self.function})"


def apply(linear_map: LinearMap, residuals: Sequence[jax.Array], inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """The living outputs of ``linear_map`` at its living ``inputs``."""
    return linear_map_p.bind(*residuals, *inputs, linear_map=linear_map, num_residuals=len(residuals))


def batch_in_front(args: Sequence[Any], axes: Sequence[int | None]) -> list[Any]:
    """The operands of a batching rule with the mapped axis first, where it was missing broadcast and sharded alike."""
    x, axis = next((x, axis) for x, axis in zip(args, axes, strict=True) if axis is not None)
    size, mesh_axis = x.shape[axis], jax.typeof(x).sharding.spec[axis]
    return [batching.bdim_at_front(x, axis, size, mesh_axis) for x, axis in zip(args, axes, strict=True)]


def batch_at(place: int, args: Sequence[Any], axes: Sequence[int | None], rereads: bool = True) -> list[Any]:
    """The same with the mapped axis at ``place``, -1 or -2; ``rereads``: for those who read entries several times."""
    front = batch_in_front(args, axes) if None in axes else args
    return [
        jnp.moveaxis(spread, 0, place) if axis is None else _moved(x, axis, place, rereads)
        for x, axis, spread in zip(args, axes, front, strict=True)
    ]


def _moved(x: jax.Array, axis: int, place: int, rereads: bool) -> jax.Array:
    """``x`` with ``axis`` at ``place``.

    A matrix that is not tiny is moved in memory, once, for those who would else jump from entry to entry several times.
    """
    moved = jnp.moveaxis(x, axis, place)
    is_matrix = place == -1 and x.ndim > 2 and max(moved.shape[:-1]) > 4
    return materialise(moved) if rereads and is_matrix and axis != x.ndim - 1 else moved


def merge_into_last(args: Sequence[Any], axes: Sequence[int | None]) -> tuple[list[Any], tuple[int, int]]:
    """The operands of a batching rule whose last axis is a batch, the mapped axis merged into it; and both sizes."""
    moved = batch_at(-2, args, axes)
    sizes = moved[0].shape[-2:]
    return [x.reshape(*x.shape[:-2], sizes[0] * sizes[1]) for x in moved], sizes


def split_last(results: Sequence[Any], sizes: tuple[int, int]) -> tuple[list[Any], list[int]]:
    """What a batching rule returns after :func:`merge_into_last`: the results, and their mapped axes."""
    return [x.reshape(*x.shape[:-1], *sizes) for x in results], [x.ndim - 1 for x in results]


def is_small_problem(args: Sequence[Any], axes: Sequence[int | None]) -> bool:
    """Whether the operands of a batching rule are small but for the mapped axis."""
    return is_small(member_shapes(args, axes))


def member_shapes(args: Sequence[Any], axes: Sequence[int | None]) -> list[tuple[int, ...]]:
    """The shapes of the operands of a batching rule without the mapped axis."""
    return [tuple(n for i, n in enumerate(x.shape) if i != axis) for x, axis in zip(args, axes, strict=True)]


def _run(*args: Any, linear_map: LinearMap, num_residuals: int) -> list[jax.Array]:
    return linear_map(args[:num_residuals], args[num_residuals:])


linear_map_p = new_primitive("linear_map", _run, multiple_results=True)


def _lower(*args: Any, linear_map: LinearMap, num_residuals: int) -> list[jax.Array]:
    """What a program runs: of many small problems all that a rule reads several times lies in memory.

    A sum of cotangents, or a vector that is a product, would be computed at each reading. Residuals that are matrices
    lie there already.
    """
    if linear_map.batched is None:
        return linear_map(args[:num_residuals], args[num_residuals:])
    residuals = [materialise(x) if x.ndim == 2 else x for x in args[:num_residuals]]
    return linear_map(residuals, [materialise(x) if x.ndim > 1 else x for x in args[num_residuals:]])


def _jvp(primals: Any, tangents: Any, *, linear_map: LinearMap, num_residuals: int) -> Any:
    residuals, inputs = primals[:num_residuals], primals[num_residuals:]
    d_residuals, d_inputs = tangents[:num_residuals], tangents[num_residuals:]
    outputs = apply(linear_map, residuals, inputs)
    terms = []
    alive = [type(t) is not ad.Zero for t in d_inputs]
    if any(alive):
        living = [t for t in d_inputs if type(t) is not ad.Zero]
        terms.append(apply(linear_map.restrict(alive), residuals, living))
    moving = [i for i, t in enumerate(d_residuals) if type(t) is not ad.Zero]
    if moving:

        def of_residuals(*values: jax.Array) -> list[jax.Array]:
            moved = dict(zip(moving, values, strict=True))
            return linear_map([moved.get(i, r) for i, r in enumerate(residuals)], inputs)

        at, along = (tuple(side[i] for i in moving) for side in (residuals, d_residuals))
        terms.append(jax.jvp(of_residuals, at, along)[1])
    if not terms:
        return outputs, [ad.Zero(jax.typeof(output).to_tangent_aval()) for output in outputs]
    return outputs, [functools.reduce(jax.numpy.add, term) for term in zip(*terms, strict=True)]


def _transpose(cotangents: Any, *args: Any, linear_map: LinearMap, num_residuals: int) -> Any:
    residuals, inputs = args[:num_residuals], args[num_residuals:]
    sought = [ad.is_undefined_primal(x) for x in inputs]
    alive = [type(c) is not ad.Zero for c in cotangents]
    if not any(alive):
        return [None] * len(args)
    if any(map(ad.is_undefined_primal, residuals)):
        run = functools.partial(_run, linear_map=linear_map, num_residuals=num_residuals)
        with in_any_order(True):
            return transpose_of_code(f"{linear_map}", run, cotangents, args)
    adjoint = linear_map.restrict(sought).transpose.restrict(alive)
    found = iter(apply(adjoint, residuals, [c for c in cotangents if type(c) is not ad.Zero]))
    return [None] * num_residuals + [next(found) if wanted else None for wanted in sought]


def transpose_of_code(
    name: str, function: Callable[..., list[jax.Array]], cotangents: Sequence[Any], args: Sequence[Any]
) -> list[jax.Array | None]:
    """What a transpose rule returns where the code of ``function`` is linear in all unknown arguments together."""
    unknown = [i for i, x in enumerate(args) if ad.is_undefined_primal(x)]

    def of_unknown(*values: jax.Array) -> list[jax.Array]:
        known = dict(zip(unknown, values, strict=True))
        return function(*(known.get(i, x) for i, x in enumerate(args)))

    try:
        pull = jax.linear_transpose(of_unknown, *(args[i].aval for i in unknown))
        found = dict(zip(unknown, pull([ad.instantiate_zeros(c) for c in cotangents]), strict=True))
    except (AssertionError, NotImplementedError, TypeError) as error:
        # by these JAX tells that a product has two unknown factors, that a step is not linear, that it is of integers
        raise ValueError(
            f"linalgx.{name}: not linear in its arguments {unknown}, so it has no transpose there"
        ) from error
    return [found.get(i) for i in range(len(args))]


def _batch(args: Any, axes: Any, *, linear_map: LinearMap, num_residuals: int) -> Any:
    mapped = tuple(axis is not None for axis in axes[:num_residuals])
    if linear_map.batched is not None:
        return _batch_again(args, axes, linear_map, mapped)
    # where all have the batch in front, the operation left it there
    if any(axes) and is_small_problem(args, axes):
        last = batch_at(-1, args, axes)
        residuals = [x if flag else r for r, x, flag in zip(args, last, mapped, strict=False)]
        outputs = apply(linear_map.batch_last(mapped), residuals, last[num_residuals:])
        return outputs, [output.ndim - 1 for output in outputs]
    inputs = batch_in_front(args, axes)[num_residuals:]
    outputs = apply(linear_map.batch(tuple(axes[:num_residuals])), args[:num_residuals], inputs)
    return outputs, [0] * len(outputs)


def _batch_again(args: Any, axes: Any, linear_map: LinearMap, mapped: tuple[bool, ...]) -> Any:
    """One more batch of many small problems: the two become one on the last axis."""
    has_last = (*linear_map.batched, *(True for _ in args[len(mapped) :]))  # type: ignore[misc]
    # the batch that is there, of an operand that has it
    inner = next(
        (x.shape if axis is None else x.shape[:axis] + x.shape[axis + 1 :])[-1]
        for x, axis, last in zip(args, axes, has_last, strict=True)
        if last
    )
    spread = [
        x if last else jnp.broadcast_to(jnp.expand_dims(x, -1), (*x.shape, inner))
        for x, last in zip(args, has_last, strict=True)
    ]
    merged, sizes = merge_into_last(spread, axes)
    flags = tuple(m or last for m, last in zip(mapped, has_last, strict=False))
    residuals = [x if flag else r for r, x, flag in zip(args, merged, flags, strict=False)]
    outputs = apply(linear_map.batch_last(flags), residuals, merged[len(mapped) :])
    return split_last(outputs, sizes)


_lowering = mlir.lower_fun(_lower, multiple_results=True)
register(linear_map_p, _lowering, cpu=in_turn(_lowering), cacheable=not NEEDED, in_order=in_turn)
ad.primitive_jvps[linear_map_p] = _jvp
ad.primitive_transposes[linear_map_p] = _transpose
batching.primitive_batchers[linear_map_p] = _batch
