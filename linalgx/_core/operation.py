"""Operations: batched primitives that carry a reverse and a forward derivative rule, both written by hand.

An :class:`Operation` binds an implementation (arrays in, arrays out, any number of leading batch axes) to

- ``defvjp(fwd, bwd)``: ``fwd(*args) -> (out, residuals)`` and ``bwd(residuals, cotangents) -> cotangents``, the
  form of :func:`jax.custom_vjp`;
- ``defjvp(jvp)``: ``jvp(residuals, *tangents) -> tangents``, on the residuals of the same ``fwd``.

How the two modes come out of it: the JVP rule of the primitive runs ``fwd``, then applies the linear map (``push``:
jvp, ``pull``: bwd) to the tangents. Forward mode evaluates it; reverse mode lets JAX transpose it, which runs ``bwd``
on the residuals; higher order differentiates either with respect to the residuals.

What a rule may rely on:

- One output is an array, several are a tuple; ``bwd`` returns a tuple with one entry per argument.
- None stands for a tangent or a cotangent that is symbolically zero, and is what a rule returns for an argument or
  an output that is not differentiable (integers).
- Cotangents follow the papers: ``<X, Y> = Re tr(X^H Y)``. JAX pairs without the conjugate; the conjugations that
  this takes are applied here and nowhere else. A cotangent of a real argument is reduced to its real part here, too.
- Matrix products run at the highest precision, and ranks broadcast, whatever the user has set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from linalgx._core.batch_minor import SMALL, batch_minor, is_small
from linalgx._core.in_turn import NEEDED, in_turn
from linalgx._core.linear_map import (
    LinearMap,
    Sides,
    apply,
    batch_at,
    batch_in_front,
    member_shapes,
    merge_into_last,
    split_last,
)
from linalgx._core.loops import many_threads, undivided, varying_alike
from linalgx._core.primitive import is_shared_out, new_primitive, register


class Rules(NamedTuple):
    """The derivative rules of one operation, and where their mathematics is from."""

    operation: Operation
    fwd: Callable[..., Any]
    bwd: Callable[..., Any]
    jvp: Callable[..., Any]
    source: str


class SmallKernel(NamedTuple):
    """A kernel for many small problems.

    Attributes:
        function: the operation on arrays that have the batch as their last axis.
        selected: whether to use it: (platform, longest axis of the first argument, size of the batch, dtype) -> bool.
        rank: the number of axes of the first argument of one problem; None if ``function`` takes any.
        in_front: the operation on matrices that have the batch in front, and that are all small; with it leading axes,
            and a mapped axis that all operands have in front, stay there.
        rereads: whether it reads entries of arguments of these shapes several times: those of one problem that is not
            tiny are then moved in memory, if the batch is in front.
        longest: the longest axis of what ``function`` takes. A batch of problems that are not small is in front: it is
            moved to the end, and the results back.
    """

    function: Callable[..., Any]
    selected: Callable[[str | None, int, Any, Any], bool]
    rank: int | None = 2
    in_front: Callable[..., Any] | None = None
    rereads: Callable[..., bool] = lambda *shapes: True
    longest: int = SMALL

    def takes(self, shapes: Sequence[Any]) -> bool:
        """Whether arguments of these shapes are one small problem, without batch axes."""
        return self.rank in (None, len(shapes[0])) and is_small(shapes)

    def on(self, shapes: Sequence[Any], batch_last: bool) -> tuple[Callable[..., Any], int, Any] | None:
        """The function for arguments of these shapes, the longest axis of the first, the size of the batch; or None."""
        shape, leading = shapes[0], len(shapes[0]) - (self.rank or 0)
        if batch_last:
            return self.function, max(shape[:-1], default=1), shape[-1]
        if self.in_front is not None:
            return self.in_front, max(shape[-2:], default=1), math.prod(shape[:-2])
        if self.longest == SMALL or leading == 0 or not is_small([s[leading:] for s in shapes], self.longest):
            return None
        return self._moving, max(shape[leading:], default=1), math.prod(shape[:leading])

    def _moving(self, *args: jax.Array, **params: Any) -> list[jax.Array]:
        """The function on arrays that have the batch in front."""
        leading = args[0].ndim - (self.rank or 0)
        batch = args[0].shape[:leading]
        return [_to_front(x, batch) for x in _as_list(self.function(*(_to_last(x, leading) for x in args), **params))]


def always(platform: str | None, longest: int, batch: Any, dtype: Any) -> bool:
    """The selection of a kernel that has no rival."""
    return True


RULES: dict[str, Rules] = {}
"""The index of all derivative rules: the name of an operation, and its :class:`Rules`."""


@contextlib.contextmanager
def house_numerics() -> Iterator[None]:
    """How all code of the package computes: ``@`` at full precision on every platform, broadcasting as in NumPy."""
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        yield


class Operation:
    """A batched primitive with one implementation and hand-written derivative rules.

    Args:
        name: the name of the primitive, and its key in :data:`RULES`.
        implementation: takes arrays with the same leading batch axes, and static parameters by keyword.
        linear_in: the sets of arguments (their positions) in which the operation is linear while the others are
            fixed, for :func:`jax.linear_transpose`.
        small: a kernel for many small problems. With it, a batch of small problems is one axis, the last, of all
            arrays that the primitive takes and gives (its parameter ``batch_last`` is set), and stays there from one
            operation to the next. Whether the kernel runs is decided when the program is lowered.
        at_hand: the arguments (their positions) that follow from the others, which saves computing them. How they move
            is part of the derivatives with respect to the others: the rules are not asked for it, and give None.
    """

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Any],
        linear_in: tuple[set[int], ...] = (),
        small: SmallKernel | None = None,
        at_hand: tuple[int, ...] = (),
    ):
        self.name = name
        self.implementation = implementation
        self.small = small
        self.linear_in = linear_in
        self.at_hand = at_hand
        self.primitive = new_primitive(f"linalgx_{name}", self._run, multiple_results=True)
        default, cpu, cuda = (functools.partial(self._lower, platform) for platform in (None, "cpu", "cuda"))
        register(self.primitive, default, cpu=cpu, cuda=cuda, cacheable=not NEEDED, in_order=in_turn)
        batching.primitive_batchers[self.primitive] = self._batch

    def __call__(self, *args: Any, **params: Hashable) -> Any:
        operands = varying_alike(args)
        leading = self._leading_axes(operands)
        if leading:
            batch = operands[0].shape[:leading]
            results = self.primitive.bind(*(_to_last(x, leading) for x in operands), batch_last=True, **params)
            results = [_to_front(x, batch) for x in results]
        else:
            results = self.primitive.bind(*operands, batch_last=False, **params)
        return results[0] if len(results) == 1 else tuple(results)

    def _leading_axes(self, args: Any) -> int:
        """The number of batch axes in front of small problems, which are to move to the end; else 0."""
        if self.small is None or self.small.rank is None or self.small.in_front is not None:
            return 0
        leading = args[0].ndim - self.small.rank
        if leading > 1 and any(_is_shared_out(jax.typeof(x)) for x in args):
            return 0  # axes that an explicit mesh shares out are not merged
        return leading if is_small([x.shape[leading:] for x in args]) else 0

    def __repr__(self) -> str:
        return self.name

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Register the reverse rule."""
        self.fwd, self.bwd = fwd, bwd
        if self.linear_in:
            ad.primitive_transposes[self.primitive] = self._transpose

    def defjvp(self, jvp: Callable[..., Any], source: str) -> None:
        """Register the forward rule, on the residuals of the reverse rule's ``fwd``, and the source of both."""
        self.jvp = jvp
        ad.primitive_jvps[self.primitive] = self._differentiate
        RULES[self.name] = Rules(self, self.fwd, self.bwd, jvp, source)

    def _run(self, *args: Any, batch_last: bool, **params: Any) -> list[jax.Array]:
        """The implementation, on batch axes in front or one at the end."""
        with house_numerics():
            if not batch_last:
                return _as_list(self.implementation(*args, **params))
            return [jnp.moveaxis(x, 0, -1) for x in _as_list(self.implementation(*map(_first, args), **params))]

    def _lower(self, platform: str | None, ctx: mlir.LoweringRuleContext, *args: Any, **params: Any) -> Any:
        """What the program of ``platform`` runs: here the kernel is selected."""
        kernel = self._selected(platform, ctx.avals_in, params["batch_last"])
        lower = mlir.lower_fun(kernel or self._run, multiple_results=True)
        calls_lapack = kernel is None and platform == "cpu"
        with many_threads(platform != "cpu"), undivided(is_shared_out(ctx)):
            return (in_turn(lower) if calls_lapack else lower)(ctx, *args, **params)

    def _selected(self, platform: str | None, avals: Any, batch_last: bool) -> Callable[..., list[jax.Array]] | None:
        """The kernel for many small problems, where it is to run on arguments like these."""
        if self.small is None:
            return None
        found = self.small.on([x.shape for x in avals], batch_last)
        if found is None:
            return None
        kernel, longest, batch = found
        # kernels make arrays of their own, which an explicit mesh does not share out as it does their arguments
        if any(map(_is_shared_out, avals)) or not self.small.selected(platform, longest, batch, avals[0].dtype):
            return None

        def run(*args: Any, batch_last: bool, **params: Any) -> list[jax.Array]:
            with house_numerics():
                return _as_list(kernel(*args, **params))

        return run

    def _batch(self, args: Any, axes: Any, *, batch_last: bool, **params: Hashable) -> Any:
        if batch_last:
            merged, size = merge_into_last(args, axes)
            results = self.primitive.bind(*merged, batch_last=True, **params)
            return split_last(results, size)
        members = member_shapes(args, axes)
        stays = self.small is not None and self.small.in_front is not None and not any(axes)
        if self.small is not None and not stays and self.small.takes(members):
            rereads = self.small.rereads(*members)
            results = self.primitive.bind(*batch_at(-1, args, axes, rereads), batch_last=True, **params)
            return results, [x.ndim - 1 for x in results]
        results = self.primitive.bind(*batch_in_front(args, axes), batch_last=False, **params)
        return results, [0] * len(results)

    def _linearize(self, primals: Any, alive: Any, *, batch_last: bool, **params: Any) -> Any:
        """The value, the residuals, and the linear map from the living tangents to those of the outputs."""

        def fwd(*primals: Any) -> tuple[list[jax.Array], list[jax.Array]]:
            with house_numerics():
                out, residuals = self.fwd(*primals, **params)
            return _as_list(out), list(residuals)

        outs, residuals = (batch_minor(fwd) if batch_last else fwd)(*primals)
        static = tuple(params.items())
        linear_map = LinearMap(
            push=_Push(self, static, tuple(o.dtype for o in outs)),
            pull=_Pull(self, static, tuple(jnp.result_type(p) for p in primals)),
            inputs=tuple(alive),
            outputs=tuple(jnp.issubdtype(o.dtype, jnp.inexact) for o in outs),
            batched=(True,) * len(residuals) if batch_last else None,
        )
        return outs, residuals, linear_map

    def _differentiate(self, primals: Any, tangents: Any, **params: Any) -> Any:
        alive = [type(t) is not ad.Zero and i not in self.at_hand for i, t in enumerate(tangents)]
        outs, residuals, linear_map = self._linearize(primals, alive, **params)
        moved = iter(apply(linear_map, residuals, list(itertools.compress(tangents, alive))))
        return outs, [
            next(moved) if differentiable else ad.Zero(jax.typeof(out).to_tangent_aval())
            for out, differentiable in zip(outs, linear_map.outputs, strict=True)
        ]

    def _transpose(self, cotangents: Any, *args: Any, **params: Any) -> Any:
        sought = [ad.is_undefined_primal(x) for x in args]
        unknown = [i for i, wanted in enumerate(sought) if wanted]
        if not any(positions.issuperset(unknown) for positions in self.linear_in):
            raise ValueError(
                f"linalgx.{self.name}: not linear in its arguments {unknown}, so it has no transpose there"
            )
        # the residuals that bwd needs for these arguments do not depend on them: any value serves, zero is one
        primals = [
            jnp.zeros(x.aval.shape, x.aval.dtype) if wanted else x for x, wanted in zip(args, sought, strict=True)
        ]
        _, residuals, linear_map = self._linearize(primals, sought, **params)
        alive = [type(c) is not ad.Zero for c in cotangents]
        living = [c for c in cotangents if type(c) is not ad.Zero]
        found = iter(apply(linear_map.transpose.restrict(alive), residuals, living) if living else ())
        return [next(found, None) if wanted else None for wanted in sought]


@dataclasses.dataclass(frozen=True)
class _Push:
    """Forward mode of an operation, in the form that LinearMap takes."""

    operation: Operation
    params: tuple[tuple[str, Hashable], ...]
    dtypes: tuple[Any, ...]

    def __call__(self, residuals: Any, tangents: Sides) -> Sides:
        with house_numerics():
            results = self.operation.jvp(tuple(residuals), *tangents, **dict(self.params))
        return [_as_dtype(r, dtype) for r, dtype in zip(_as_list(results), self.dtypes, strict=True)]

    def __repr__(self) -> str:
        return f"{self.operation.name}.jvp"


@dataclasses.dataclass(frozen=True)
class _Pull:
    """Reverse mode of an operation, in the form that LinearMap takes."""

    operation: Operation
    params: tuple[tuple[str, Hashable], ...]
    dtypes: tuple[Any, ...]

    def __call__(self, residuals: Any, cotangents: Sides) -> Sides:
        conjugated: list[jax.Array | None] = [None if c is None else jnp.conj(c) for c in cotangents]
        single = conjugated[0] if len(conjugated) == 1 else tuple(conjugated)
        with house_numerics():
            results = self.operation.bwd(tuple(residuals), single, **dict(self.params))
        matched = [_as_dtype(r, dtype) for r, dtype in zip(results, self.dtypes, strict=True)]
        return [None if r is None else jnp.conj(r) for r in matched]

    def __repr__(self) -> str:
        return f"{self.operation.name}.bwd"


def _is_shared_out(x: Any) -> bool:
    """Whether an explicit mesh shares out an axis of an array of this type."""
    return any(axis is not None for axis in x.sharding.spec)


def _first(x: jax.Array) -> jax.Array:
    """The last axis moved to the front."""
    return jnp.moveaxis(x, -1, 0)


def _to_last(x: jax.Array, leading: int) -> jax.Array:
    """The ``leading`` axes merged into one, which is moved to the end."""
    return jnp.moveaxis(x if leading == 1 else x.reshape(math.prod(x.shape[:leading]), *x.shape[leading:]), 0, -1)


def _to_front(x: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """The last axis moved to the front and parted into the axes ``batch``."""
    moved = _first(x)
    return moved if len(batch) == 1 else moved.reshape(*batch, *moved.shape[1:])


def _as_list(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple | list) else [results]


def _as_dtype(x: jax.Array | None, dtype: Any) -> jax.Array | None:
    """``x`` in ``dtype``; of a complex x that should be real, the real part (the adjoint of real -> complex)."""
    if x is None:
        return None
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = jnp.real(x)
    return x.astype(dtype)
