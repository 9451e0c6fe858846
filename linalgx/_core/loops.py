"""Where the loops of a compiled program end, over which parts of a batch they run, and what they may carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

materialise_p = Primitive("materialise")
materialise_p.def_impl(lambda x: x)
materialise_p.def_abstract_eval(lambda x: x)
batching.primitive_batchers[materialise_p] = lambda args, axes: (materialise_p.bind(args[0]), axes[0])
ad.deflinear(materialise_p, lambda cotangent: [cotangent])


def materialise(x: jax.Array) -> jax.Array:
    """The same array, but computed once and kept in memory: for a value that several later steps read.

    XLA's compiler for the CPU computes a value anew in every loop that reads it, and a chain of such values anew at
    every link: the cost grows exponentially with its length. ``lax.optimization_barrier`` is gone by the time that it
    makes these loops. A conditional is not, if its predicate is a value that the compiler does not know.
    """
    return materialise_p.bind(x)


def _conditional(x: jax.Array) -> jax.Array:
    never = lax.optimization_barrier(jnp.int32(0)) > 1
    other = lax.neg if jnp.issubdtype(x.dtype, jnp.inexact) else lax.bitwise_not
    return lax.cond(never, other, lambda x: x, x)


mlir.register_lowering(materialise_p, mlir.lower_fun(lambda x: x, multiple_results=False))
mlir.register_lowering(materialise_p, mlir.lower_fun(_conditional, multiple_results=False), platform="cpu")


LONG_BYTES = 2**19
"""The size of the matrices that :func:`long_part` takes together."""

SHORT = 512
"""The members of a batch whose loops are so short that an uneven length costs little."""

EVEN = 16
"""What divides the size of a part: where the cores do not divide the length of a loop, XLA masks loads and stores."""


many_threads = jax.make_user_context(default_value=False)
"""Context manager: whether a program is for a platform that has a thread for each member of a batch, as a GPU has."""


def in_parts(function: Callable[..., Any], size: int, A: jax.Array, *others: jax.Array) -> Any:
    """``function(A, *others)``, computed for about ``size`` members of the batch at a time.

    What the function materialises then stays in the cache, and its memory does not grow with the batch. Parts have one
    size, a multiple of EVEN (so that a batch which is none is parted, too, unless it is short); the last one overlaps
    the one before if that does not divide the batch: slices that reach over the end are moved back. The first result
    that is like A is written over it. A symbolic batch (of an exported program), and any on many threads, is computed
    at once.
    """
    batch = A.shape[-1]
    if many_threads.value or not isinstance(batch, int) or (batch <= size and (batch % EVEN == 0 or batch <= SHORT)):
        return function(A, *others)
    size = -(-batch // (max(2, -(-batch // size)) * EVEN)) * EVEN
    number = -(-batch // size)

    def part(x: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(x, i * size, size, -1)

    # the last part, of which the one before may write over some
    end = materialise(part(A, jnp.int32(number - 1)))
    shapes, structure = jax.tree.flatten(jax.eval_shape(function, end, *(x[..., :size] for x in others)))
    place = next((k for k, s in enumerate(shapes) if (s.shape, s.dtype) == (end.shape, end.dtype)), None)

    def step(i: jax.Array, outs: list[jax.Array]) -> list[jax.Array]:
        source = A if place is None else outs[place]
        first = lax.cond(i == number - 1, lambda source: end, lambda source: part(source, i), source)
        results = jax.tree.leaves(function(first, *(materialise(part(x, i)) for x in others)))
        return [
            lax.dynamic_update_slice_in_dim(out, materialise(result), i * size, -1)
            for out, result in zip(outs, results, strict=True)
        ]

    outs = [varying_alike([A, jnp.zeros((*s.shape[:-1], batch), s.dtype)])[1] for s in shapes]
    outs = [A if k == place else out for k, out in enumerate(outs)]
    return jax.tree.unflatten(structure, lax.fori_loop(jnp.int32(0), jnp.int32(number), step, outs))


def long_part(A: jax.Array) -> int:
    """A size for :func:`in_parts`: loops long enough for all cores to share, over what their caches can hold."""
    return LONG_BYTES // (math.prod(A.shape[:-1]) * A.dtype.itemsize)


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
