"""Programs for many small matrices, taken apart into the entries of one matrix.

A kernel for many small matrices computes with arrays whose last axis is the batch. On a GPU, where each thread works
on one member, every number that a thread computes should stay in a register; but XLA gives a thread one entry of one
array, and what two entries have in common is computed twice or goes through memory. :func:`entrywise` runs the same
program with each entry of each array as a vector by itself: to pick, move or join entries then costs nothing, XLA makes
a few kernels with many results of all the rest, and a kernel reads each entry of its matrices once.

On a CPU one step need not put a matrix together for the next one to take apart: an entry that a step picks of what was
:func:`joined` XLA takes from where it was computed, if nothing lies in between. That is what :func:`entry_by_entry` is
for.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from linalgx._core.batch_minor import CALLS, ELEMENTWISE, FOLDS, closed
from linalgx._core.loops import many_threads, materialise

MANY = 512
"""The members of a batch that are worth it. No axis of a kernel's arrays but the batch is as long."""

REGISTERS = 256
"""The bytes of a matrix of which a thread can keep all entries in its registers, with what it makes of them."""

LONG = 300
"""The operations after which a value that is to be materialised ends a kernel: longer ones take long to compile."""

FEW = 128
"""The entries of all arguments that a step takes apart on a CPU: two matrices of 8 x 8."""


def entrywise(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, a function of arrays whose last axis is the batch; on many threads entry by entry."""

    @functools.wraps(kernel)
    def run(*args: jax.Array, **params: Any) -> Any:
        *member, batch = args[0].shape
        fits = math.prod(member) * args[0].dtype.itemsize <= REGISTERS
        if not (many_threads.value and _are_many(batch) and fits):
            return kernel(*args, **params)
        return _in_entries(kernel, args, params)

    return run


def entry_by_entry(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, a function of arrays whose last axis is the batch; on a CPU entry by entry.

    For one that picks entries, or makes few numbers of them with little work: none of it is kept for who reads it
    twice. On many threads XLA makes one kernel of such a step in any case.
    """

    @functools.wraps(step)
    def run(*args: jax.Array, **params: Any) -> Any:
        few = sum(math.prod(x.shape[:-1]) for x in args) <= FEW
        if many_threads.value or not (few and _are_many(args[0].shape[-1])):
            return step(*args, **params)
        return _in_entries(step, args, params)

    return run


def joined(rows: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """The matrix whose rows have these entries, vectors over the batch.

    A slice that is one entry XLA replaces by what it was concatenated from, unless a reshape lies in between, as in a
    ``jnp.stack`` of rows.
    """
    return _joined(_cells((len(rows), len(rows[0])), itertools.chain.from_iterable(rows)))


def _joined(cells: np.ndarray) -> jax.Array:
    rank = cells.ndim
    parts = _cells(cells.shape, (x.reshape((1,) * rank + x.shape) for x in cells.flat))
    for axis in reversed(range(rank)):
        lines = parts.reshape(-1, parts.shape[-1])
        parts = _cells(parts.shape[:-1], (jnp.concatenate(list(line), axis) for line in lines))
    return parts.item()


def _are_many(batch: Any) -> bool:
    return isinstance(batch, int) and batch >= MANY


def _in_entries(function: Callable[..., Any], args: Sequence[jax.Array], params: dict[str, Any]) -> Any:
    batch = args[0].shape[-1]
    assert all(x.shape[-1] == batch for x in args)
    program, shapes = jax.make_jaxpr(functools.partial(function, **params), return_shape=True)(*args)
    evaluation = _Evaluation(batch)
    outs = evaluation.kept(evaluation.evaluate(program, [evaluation.entries(x) for x in args]))
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(structure, [out.array(like) for out, like in zip(outs, leaves, strict=True)])


class _Entries:
    """An array of the program, entry by entry.

    Attributes:
        cells: an object array of the shape of one member. A cell is a vector over the batch, or a scalar.
        batch: the length of these vectors; None for an array without a batch, whose cells are scalars.
    """

    def __init__(self, cells: np.ndarray, batch: int | None):
        self.cells, self.batch = cells, batch

    def array(self, like: Any) -> jax.Array:
        """The array put together, of the shape and dtype of ``like``."""
        if self.cells.size == 0:
            return jnp.zeros(like.shape, like.dtype)
        # on many threads the cells are in memory: one loop over all of them puts the array together
        return jnp.stack(list(self.cells.flat)).reshape(like.shape) if many_threads.value else _joined(self.cells)

    def spread(self, batch: int | None, shape: Sequence[int] | None = None) -> _Entries:
        """The array with a batch, if there is one, and of the shape of one member that its axes broadcast to."""
        cells = self.cells
        if self.batch is None and batch is not None:
            # the axis in the place of the batch has length one
            cells = cells.reshape(cells.shape[:-1])
            cells = _cells(cells.shape, (jnp.broadcast_to(x, (batch,)) for x in cells.flat))
        return _Entries(cells if shape is None else np.broadcast_to(cells, shape), batch)


def _cells(shape: Sequence[int], values: Iterable[Any]) -> np.ndarray:
    """An object array of these values, which NumPy is not to look into."""
    cells = np.empty(tuple(shape), object)
    for i, value in zip(np.ndindex(cells.shape), values, strict=True):
        cells[i] = value
    return cells


class _Evaluation:
    """The evaluation of programs on batches of one size.

    Attributes:
        batch: the size.
        work: the operations since the last value that was materialised.
    """

    def __init__(self, batch: int):
        self.batch, self.work = batch, 0

    def entries(self, x: Any) -> _Entries:
        """The entries of an array; its last axis is the batch if it is as long."""
        shape = jnp.shape(x)
        batch = self.batch_of(shape)
        shape = shape if batch is None else shape[:-1]
        return _Entries(_cells(shape, (x[i] for i in np.ndindex(shape))), batch)

    def batch_of(self, shape: Sequence[int]) -> int | None:
        return self.batch if shape and shape[-1] == self.batch else None

    def evaluate(self, program: core.ClosedJaxpr, inputs: Sequence[_Entries]) -> list[_Entries]:
        """The outputs of the program."""
        known = dict(zip(program.jaxpr.constvars, map(self.entries, program.consts), strict=True))
        known |= dict(zip(program.jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> _Entries:
            if isinstance(atom, core.Literal):
                return self.entries(np.asarray(atom.val, atom.aval.dtype))  # type: ignore[attr-defined]
            return known[atom]

        for equation in program.jaxpr.eqns:
            outputs = self.apply(equation, [read(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, outputs, strict=True))
        outs = [read(atom) for atom in program.jaxpr.outvars]
        return [out.spread(self.batch_of(aval.shape)) for out, aval in zip(outs, program.out_avals, strict=True)]

    def apply(self, equation: Any, values: list[_Entries]) -> list[_Entries]:
        """One step of the program."""
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            return self.evaluate(closed(params[CALLS[name]]), values)
        if not self.is_known(equation):
            return self.as_arrays(equation, values)
        if name in _SEVERAL:
            return _SEVERAL[name](self, values, **params)
        shape = equation.outvars[0].aval.shape
        batch = self.batch_of(shape)
        member = shape if batch is None else shape[:-1]
        if name in _VIEWS:
            return [_VIEWS[name](values, batch, member, params)]
        if name in _ONE_BY_ONE:
            operands = [x.spread(batch, member).cells.flat for x in values]
            results = [equation.primitive.bind(*cells, **params) for cells in zip(*operands, strict=True)]
            self.work += len(results)
            return [_Entries(_cells(member, results), batch)]
        return [self.fold(equation.primitive, values[0], member, **params)]

    def fold(
        self, primitive: Any, x: _Entries, member: Sequence[int], *, axes: Sequence[int], **params: Any
    ) -> _Entries:
        """A reduction over axes of a member, over the batch, or over both."""
        rank = x.cells.ndim
        inner = [axis for axis in axes if axis < rank]
        last = np.moveaxis(x.cells, inner, range(rank - len(inner), rank))
        rows = last.reshape(math.prod(member), -1) if inner else x.cells.reshape(-1, 1)
        self.work += rows.size
        results = [functools.reduce(FOLDS[primitive.name], row) for row in rows]
        if x.batch is None or rank not in axes:
            return _Entries(_cells(member, results), x.batch)
        return _Entries(_cells(member, (primitive.bind(cell, axes=(0,), **params) for cell in results)), None)

    def kept(self, values: Sequence[_Entries]) -> list[_Entries]:
        """The values in memory, from one kernel if possible; on a CPU, whose kernels have one result, as they are."""
        self.work = 0
        if not many_threads.value:
            return list(values)
        flat = iter(lax.optimization_barrier([cell for value in values for cell in value.cells.flat]))
        return [_Entries(_cells(x.cells.shape, itertools.islice(flat, x.cells.size)), x.batch) for x in values]

    def materialise(self, values: list[_Entries], **options: Any) -> list[_Entries]:
        if not many_threads.value:
            keep = functools.partial(materialise, **options)
            return [_Entries(_cells(x.cells.shape, map(keep, x.cells.flat)), x.batch) for x in values]
        return self.kept(values) if self.work > LONG else values

    def loop(
        self,
        values: list[_Entries],
        *,
        cond_jaxpr: core.ClosedJaxpr,
        body_jaxpr: core.ClosedJaxpr,
        cond_nconsts: int,
        body_nconsts: int,
        **_: Any,
    ) -> list[_Entries]:
        """A while loop that carries the entries."""
        start = cond_nconsts + body_nconsts
        for_condition, for_body = values[:cond_nconsts], values[cond_nconsts:start]
        batches = [self.batch_of(aval.shape) for aval in body_jaxpr.out_avals]
        carry = _Tree([x.spread(batch) for x, batch in zip(values[start:], batches, strict=True)])

        def body(flat: Iterable[jax.Array]) -> list[jax.Array]:
            self.work = 0
            return _Tree(self.evaluate(body_jaxpr, for_body + carry.values(flat))).flat

        def condition(flat: Iterable[jax.Array]) -> Any:
            return self.evaluate(cond_jaxpr, for_condition + carry.values(flat))[0].cells[()]

        results = carry.values(lax.while_loop(condition, body, carry.flat))
        self.work = 0
        return results

    def as_arrays(self, equation: Any, values: list[_Entries]) -> list[_Entries]:
        """A step without a rule, or with one in a loop, on arrays; also a conditional, whose other branch is rare."""
        arrays = [x.array(atom.aval) for x, atom in zip(self.kept(values), equation.invars, strict=True)]
        results = equation.primitive.bind(*arrays, **equation.params)
        results = results if equation.primitive.multiple_results else [results]
        if any(self.batch in jnp.shape(x)[:-1] for x in results):
            raise ValueError(f"{equation.primitive} moves the batch of a kernel from the last axis")
        return [self.entries(x) for x in results]

    def is_known(self, equation: Any) -> bool:
        """Whether a step, and all that it calls, can be done entry by entry."""
        name, params = equation.primitive.name, equation.params
        if name not in CALLS and name not in _SEVERAL and name not in _VIEWS and name not in _ONE_BY_ONE | FOLDS.keys():
            return False
        shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
        if any(self.batch in shape[:-1] for shape in shapes):
            return False
        if name in _VIEWS and not _keeps_the_batch(name, params, len(shapes[0]), list(map(self.batch_of, shapes))):
            return False
        if name in FOLDS and any(shapes[0][axis] == 0 for axis in params["axes"]):
            return False
        called = jax.tree.leaves(list(params.values()), is_leaf=lambda x: isinstance(x, _PROGRAMS))
        return all(self.is_known(step) for x in called if isinstance(x, _PROGRAMS) for step in closed(x).jaxpr.eqns)


def _keeps_the_batch(name: str, params: Any, rank: int, batches: Sequence[int | None]) -> bool:
    """Whether a view leaves the batch where it is: as the last axis, whole and in order."""
    *ins, out = batches
    if out is None:
        return not any(ins) and (name != "pad" or _is_plain(params["padding_config"]))
    match name:
        case "iota":
            return False
        case "transpose":
            return params["permutation"][-1] == rank - 1
        case "rev":
            return rank - 1 not in params["dimensions"]
        case "concatenate":
            return params["dimension"] < rank - 1
        case "stack":
            return params["axis"] < rank
        case "pad":
            return _is_plain(params["padding_config"]) and params["padding_config"][-1] == (0, 0, 0)
    return True


def _is_plain(padding: Sequence[tuple[int, int, int]]) -> bool:
    """Whether a padding adds to the ends of axes, and nothing else."""
    return all(low >= 0 and high >= 0 and inner == 0 for low, high, inner in padding)


_PROGRAMS = (core.Jaxpr, core.ClosedJaxpr)
_ONE_BY_ONE = ELEMENTWISE | {"clamp", "pvary", "xor", "nextafter", "reduce_precision", "bitcast_convert_type"}
_ONE_BY_ONE |= {"shift_left", "shift_right_logical", "shift_right_arithmetic"}


class _Tree:
    """Several arrays as one list of cells, for loops."""

    def __init__(self, arrays: Sequence[_Entries]):
        self.arrays = arrays
        self.flat = [jnp.asarray(cell) for x in arrays for cell in x.cells.flat]

    def values(self, flat: Iterable[jax.Array]) -> list[_Entries]:
        """Arrays like these, of other cells."""
        cells = iter(flat)
        return [_Entries(_cells(x.cells.shape, itertools.islice(cells, x.cells.size)), x.batch) for x in self.arrays]


# --- views: (values, batch and shape of a member of the result, parameters) -> result


def _reshape(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    return _Entries(values[0].cells.reshape(member), batch)


def _broadcast_in_dim(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    (x,), axes = values, params["broadcast_dimensions"]
    rank = len(member)
    shape = [1] * (rank + (x.batch is None and batch is not None))
    for axis, length in zip(axes, x.cells.shape, strict=x.batch is None):
        shape[axis] = length
    return _Entries(x.cells.reshape(shape), x.batch).spread(batch, member)


def _transpose(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    return _Entries(values[0].cells.transpose(params["permutation"][: len(member)]), batch)


def _slice(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    strides = params["strides"] or itertools.repeat(1)
    bounds = map(slice, params["start_indices"], params["limit_indices"], strides)
    return _Entries(values[0].cells[tuple(itertools.islice(bounds, len(member)))], batch)


def _concatenate(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    return _Entries(np.concatenate([x.spread(batch).cells for x in values], axis=params["dimension"]), batch)


def _stack(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    return _Entries(np.stack([x.spread(batch).cells for x in values], axis=params["axis"]), batch)


def _rev(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    return _Entries(np.flip(values[0].cells, params["dimensions"]), batch)


def _pad(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    x, padding = values
    cells = padding.spread(batch, member).cells.copy()
    config = params["padding_config"][: len(member)]
    cells[tuple(slice(low, low + length) for (low, _, _), length in zip(config, x.cells.shape, strict=True))] = x.cells
    return _Entries(cells, batch)


def _iota(values: list[_Entries], batch: int | None, member: Sequence[int], params: Any) -> _Entries:
    count = np.indices(member)[params["dimension"]].astype(params["dtype"])
    return _Entries(_cells(member, count.flat), None)


def _unstack(evaluation: _Evaluation, values: list[_Entries], *, axis: int, **_: Any) -> list[_Entries]:
    (x,) = values
    parts = np.split(x.cells, x.cells.shape[axis], axis) if x.cells.shape[axis] else []
    return [_Entries(part.squeeze(axis), x.batch) for part in parts]


_VIEWS: dict[str, Callable[..., _Entries]] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast_in_dim,
    "transpose": _transpose,
    "slice": _slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "rev": _rev,
    "pad": _pad,
    "iota": _iota,
}
_SEVERAL: dict[str, Callable[..., list[_Entries]]] = {
    "materialise": _Evaluation.materialise,
    "unstack": _unstack,
    "while": _Evaluation.loop,
}
