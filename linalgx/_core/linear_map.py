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
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Sides = Sequence[jax.Array | None]


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """A map that is linear in its inputs, and its adjoint in the pairing of JAX (no conjugate).

    Both take ``(residuals, sides)`` and give the other side: lists of full length, in which None stands for an
    entry that is zero or not differentiable. ``inputs`` and ``outputs`` tell which entries are alive, that is,
    which of them the primitive takes and gives.
    """

    push: Callable[[Sequence[jax.Array], Sides], Sides]
    pull: Callable[[Sequence[jax.Array], Sides], Sides]
    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]

    @property
    def transpose(self) -> LinearMap:
        return LinearMap(self.pull, self.push, self.outputs, self.inputs)

    def restrict(self, alive: Sequence[bool]) -> LinearMap:
        """The map on those of its living inputs for which ``alive`` is true."""
        kept = iter(alive)
        return dataclasses.replace(self, inputs=tuple(i and next(kept) for i in self.inputs))

    def batch(self, axes: tuple[int | None, ...]) -> LinearMap:
        """The map over a batch: axis ``axes[i]`` of the i-th residual, axis 0 of all inputs and outputs."""
        return dataclasses.replace(self, push=_Batched(self.push, axes), pull=_Batched(self.pull, axes))

    def __call__(self, residuals: Sequence[jax.Array], living: Sequence[jax.Array]) -> list[jax.Array]:
        given = iter(living)
        results = self.push(list(residuals), [next(given) if alive else None for alive in self.inputs])
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


linear_map_p = Primitive("linear_map")
linear_map_p.multiple_results = True


def _run(*args: Any, linear_map: LinearMap, num_residuals: int) -> list[jax.Array]:
    return linear_map(args[:num_residuals], args[num_residuals:])


@functools.lru_cache(maxsize=4096)
def _compiled(linear_map: LinearMap, num_residuals: int) -> Callable[..., list[jax.Array]]:
    return jax.jit(lambda *args: linear_map_p.bind(*args, linear_map=linear_map, num_residuals=num_residuals))


@linear_map_p.def_impl
def _evaluate(*args: Any, linear_map: LinearMap, num_residuals: int) -> list[jax.Array]:
    return _compiled(linear_map, num_residuals)(*args)


@linear_map_p.def_abstract_eval
def _abstract(*avals: Any, **params: Any) -> list[Any]:
    # make_jaxpr and not eval_shape: it keeps shardings and the varying axes of shard_map
    return list(jax.make_jaxpr(functools.partial(_run, **params))(*avals).out_avals)


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
    adjoint = linear_map.restrict(sought).transpose.restrict(alive)
    found = iter(apply(adjoint, residuals, [c for c in cotangents if type(c) is not ad.Zero]))
    return [None] * num_residuals + [next(found) if wanted else None for wanted in sought]


def _batch(args: Any, axes: Any, *, linear_map: LinearMap, num_residuals: int) -> Any:
    inputs = batch_in_front(args, axes)[num_residuals:]
    outputs = apply(linear_map.batch(tuple(axes[:num_residuals])), args[:num_residuals], inputs)
    return outputs, [0] * len(outputs)


mlir.register_lowering(linear_map_p, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_jvps[linear_map_p] = _jvp
ad.primitive_transposes[linear_map_p] = _transpose
batching.primitive_batchers[linear_map_p] = _batch
