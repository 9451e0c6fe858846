"""Numerical failure: an exception class, the ``info`` convention, NaN in the failed matrix alone, and reports.

``info`` is int32 in the shape of the batch: 0 for success, else what LAPACK reports, counted from 1. What LAPACK has no
number for is negative: :data:`NOT_FINITE` and the others.

A public function calls :func:`report` for what can fail in it. Outside of :func:`raise_errors` that does nothing at
all. Inside, ``info`` becomes one more output of the compiled function, and meets, outside of it, a primitive that

- raises at once where it is given numbers: in eager calls, also under vmap and grad;
- becomes a callback in a program that is compiled, which takes the failure down for the end of the context;
- becomes a user check under :mod:`jax.experimental.checkify`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


class LinAlgError(np.linalg.LinAlgError):
    """A matrix for which the function has no answer: not positive definite, singular, not converged."""

    __module__ = "linalgx"


NOT_FINITE, NOT_CONVERGED, NO_PIVOTS = -1, -2, -3
CAUSES = {
    NOT_FINITE: "the input holds NaN or infinity",
    NOT_CONVERGED: "did not converge",
    NO_PIVOTS: "the pivots are not row numbers",
}
"""What a negative ``info`` says."""


def first_true(failed: jax.Array) -> jax.Array:
    """``info`` from a mask over the steps of an algorithm (last axis): the number of the first true one, or 0."""
    if failed.shape[-1] == 0:
        return jnp.zeros(failed.shape[:-1], jnp.int32)
    return jnp.where(jnp.any(failed, axis=-1), jnp.argmax(failed, axis=-1).astype(jnp.int32) + 1, 0)


def nan_where(failed: jax.Array, X: jax.Array) -> jax.Array:
    """``X`` with NaN in all of the matrices (last two axes) whose flag is set."""
    return jnp.where(failed[..., None, None], jnp.nan, X)


def not_finite(X: jax.Array) -> jax.Array:
    """The flag of the matrices (last two axes) that hold a NaN or an infinity.

    Zero times either is NaN. XLA adds up faster than it joins flags.
    """
    zeros = 0 * jnp.real(X) + 0 * jnp.imag(X) if jnp.iscomplexobj(X) else 0 * X
    return jnp.isnan(jnp.sum(zeros, axis=(-2, -1)))


def blame_input(info: jax.Array, A: jax.Array) -> jax.Array:
    """``info``, where a matrix failed that holds NaN or infinity, says so."""
    return jnp.where((info != 0) & not_finite(A), NOT_FINITE, info)


def info_of_spectrum(A: jax.Array, values: jax.Array) -> jax.Array:
    """``info`` of an iteration that gave the ``values``, shape (..., k), of A: they are NaN if it failed."""
    failed = jnp.where(jnp.any(jnp.isnan(values), axis=-1), NOT_CONVERGED, 0)
    return jnp.where(not_finite(A), NOT_FINITE, failed).astype(jnp.int32)


# --- reports


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Report:
    """What a call of a function has to say about failures.

    Attributes:
        info: one number for each matrix of the batch.
        function: the public name.
        reason: what a positive number means; ``{order}`` stands for it, ``{index}`` for one less.
    """

    info: jax.Array
    function: str = dataclasses.field(metadata={"static": True})
    reason: str = dataclasses.field(metadata={"static": True})


class _Collected(threading.local):
    reports: list[Report] | None = None


_collected = _Collected()


@contextlib.contextmanager
def collect_reports() -> Iterator[list[Report]]:
    """The list to which the function that is traced inside adds its reports."""
    outer, inner = _collected.reports, []  # type: ignore[var-annotated]
    _collected.reports = inner
    try:
        yield inner
    finally:
        _collected.reports = outer


def report(
    function: str, reason: str, info: Callable[..., jax.Array], *operands: jax.Array, always: bool = False
) -> None:
    """Report ``info(*operands)`` if failures are to be raised, or ``always``; else nothing is computed."""
    if (always or _recorder.value is not None) and _collected.reports is not None:
        _collected.reports.append(Report(info(*jax.lax.stop_gradient(operands)), function, reason))


class Reported(NamedTuple):
    """What a compiled function gives that has something to report."""

    out: Any
    reports: list[Report]


def deliver(result: Reported) -> Any:
    """The output; raise, or have raised when the program runs, for the failures that were reported with it."""
    _teach_checkify()
    for found in result.reports:
        # callbacks come in any order: the number tells which of two failures of one program came first
        call = Call(found.function, found.reason, next(_numbers), _recorder.value)
        report_p.bind(found.info, call=call)
    return result.out


class Call(NamedTuple):
    """A call of a public function, as reported."""

    function: str
    reason: str
    number: int
    recorder: _Recorder | None


_numbers = itertools.count()


def _failure(info: Any, call: Call) -> LinAlgError | None:
    info = np.asarray(info)
    failed = np.flatnonzero(info)
    if not failed.size:
        return None
    first = int(info.ravel()[failed[0]])
    cause = CAUSES.get(first) or call.reason.format(order=first, index=first - 1)
    if info.ndim == 0:
        return LinAlgError(f"linalgx.{call.function}: {cause}")
    index = tuple(map(int, np.unravel_index(failed[0], info.shape)))
    return LinAlgError(
        f"linalgx.{call.function}: {failed.size} of {info.size} matrices failed, "
        f"the first at batch index {index}: {cause}"
    )


report_p = Primitive("linalgx_report")
report_p.multiple_results = True  # none


@report_p.def_impl
def _raise(info: jax.Array, *, call: Call) -> list[Any]:
    failure = _failure(info, call)
    if failure is not None:
        raise failure
    return []


def _callback(call: Call, info: Any) -> None:
    failure = _failure(info, call)
    if failure is None:
        return
    if call.recorder is None or not call.recorder.active:
        raise failure
    call.recorder.add(call.number, failure)


def _lower(info: jax.Array, *, call: Call) -> list[Any]:
    jax.debug.callback(functools.partial(_callback, call), info)
    return []


def _batch(args: Any, axes: Any, *, call: Call) -> tuple[list[Any], list[Any]]:
    (info,), (axis,) = args, axes
    return report_p.bind(jnp.moveaxis(info, axis, 0), call=call), []


def _differentiate(primals: Any, tangents: Any, *, call: Call) -> tuple[list[Any], list[Any]]:
    return report_p.bind(*primals, call=call), []


# the effect of callbacks keeps what has no result in the program, and lets it into loops, conditionals and remat
(_EFFECT,) = jax.make_jaxpr(lambda: jax.debug.callback(lambda: None))().effects
report_p.def_effectful_abstract_eval(lambda info, **_: ([], {_EFFECT}))
mlir.register_lowering(report_p, mlir.lower_fun(_lower, multiple_results=True))
batching.primitive_batchers[report_p] = _batch
ad.primitive_jvps[report_p] = _differentiate
ad.primitive_transposes[report_p] = lambda _, *args, **params: [None] * len(args)


@functools.cache
def _teach_checkify() -> None:
    """Under checkify a report is a user check, and nothing else."""
    from jax._src import checkify  # the registry of its rules has no public name

    def functionalise(*args: Any, call: Call) -> Any:
        *context, error, enabled_errors, info = args  # newer versions of JAX put a context first
        check = jax.make_jaxpr(functools.partial(_check, call))(info)
        return checkify.checkify_jaxpr(*context, check, enabled_errors, error, info)

    checkify.error_checks[report_p] = functionalise


def _check(call: Call, info: jax.Array) -> None:
    from jax.experimental.checkify import debug_check

    if info.size == 0:
        return
    failed = info.ravel() != 0
    position = jnp.argmax(failed)
    first = info.ravel()[position]
    numbers = {"number": jnp.sum(failed), "order": first, "index": first - 1}
    text = f"linalgx.{call.function}: "
    if info.ndim:
        numbers |= {f"i{axis}": i for axis, i in enumerate(jnp.unravel_index(position, info.shape))}
        index = ", ".join(f"{{i{axis}}}" for axis in range(info.ndim)) + ("," if info.ndim == 1 else "")
        text += f"{{number}} of {info.size} matrices failed, the first at batch index ({index}): "
    debug_check(~(first > 0), text + call.reason, **numbers)
    for code, cause in CAUSES.items():
        debug_check(first != code, text + cause, **numbers)


# --- raising


class _Recorder:
    """The failures in the compiled programs that run inside one context: the first, and how many others."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.active = False
        self.first: tuple[int, LinAlgError] | None = None
        self.others = 0

    def clear(self, active: bool) -> None:
        self.active, self.first, self.others = active, None, 0

    def add(self, number: int, failure: LinAlgError) -> None:
        with self.lock:
            self.others += self.first is not None
            if self.first is None or number < self.first[0]:
                self.first = number, failure

    def take(self) -> LinAlgError | None:
        """The first failure since the last call, with a note about the others."""
        with self.lock:
            first, others = self.first, self.others
            self.clear(self.active)
        if first is None:
            return None
        if others:
            first[1].add_note(f"{others} other calls in the same context failed, too")
        return first[1]


_recorder = jax.make_user_context(default_value=None)
# A compiled program holds its recorder. Each thread that is inside a context at the same time has one of its own, and
# recorders are used again: programs are compiled as often as threads are inside at once, not as often as contexts are.
_idle: list[_Recorder] = []


@contextlib.contextmanager
def raise_errors() -> Iterator[None]:
    """Raise an exception where a numerical failure otherwise gives NaN: a context manager, and a decorator.

    What counts as a failure of which function, and as none, is in the table of ``docs/failures.md``. The message names
    the function, how many matrices of the batch failed, the index of the first, and why it failed.

    A function that is called eagerly, also under ``vmap`` or ``grad``, raises at once. In a function that is compiled
    by ``jit`` (also the body of a ``scan``) nothing can be raised while it runs: what failed there is raised when the
    context is left, which waits for the computation. The context is part of the key of jit's cache: a function that
    was compiled outside is compiled again inside, and outside costs nothing. A jitted function whose *body* enters the
    context, and a call with ``check_errors=True`` inside one, raise JAX's ``JaxRuntimeError`` with the same text.

    Under :func:`jax.experimental.checkify.checkify` failures are user checks: the error is a value, and nothing is
    raised.

    The batch index counts the axes of ``vmap`` first, then the leading axes of the array; inside a ``scan`` or a
    ``shard_map`` it is the index in one iteration, in the part of one device. A mapped ``cond`` computes both branches,
    and a mapped ``while_loop`` goes on for members that are through: failures are raised also in what is thrown away.

    Raises:
        LinAlgError: inside, or on leaving.

    Example:
        >>> import jax, jax.numpy as jnp, linalgx
        >>> A = jnp.stack([jnp.eye(2), -jnp.eye(2)])
        >>> with linalgx.raise_errors():
        ...     L = jax.jit(linalgx.cholesky)(A)
        Traceback (most recent call last):
            ...
        linalgx.LinAlgError: linalgx.cholesky: 1 of 2 matrices failed, the first at batch index (1,): the leading \
minor of order 1 is not positive definite
    """
    outer = _recorder.value
    recorder = outer or (_idle.pop() if _idle else _Recorder())
    recorder.active = True
    try:
        try:
            with _recorder(recorder):
                yield
        finally:
            jax.effects_barrier()
    except Exception as exception:
        failure = recorder.take()
        if failure is None:
            raise
        raise failure from exception
    else:
        failure = recorder.take()
        if failure is not None:
            raise failure
    finally:
        if outer is None:
            recorder.clear(active=False)
            _idle.append(recorder)
