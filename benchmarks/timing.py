"""Timing, written once: several sides in one process, a sample of each in turn, medians compared.

A side is a function without arguments, whose result is waited for. Timings on a shared machine drift, so that only
sides of the same measurement are compared with each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

TURN = "LINALGX_BENCHMARKS_TURN"
"""The variable of the environment that names a file: of the processes that share it one times at a time."""

Side = Callable[[], Any]
Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a call: median, interquartile range and minimum of the samples, one a round, of ``calls`` calls each."""

    median: float
    iqr: float
    minimum: float
    rounds: int
    calls: int = 1

    @classmethod
    def of(cls, samples: Sequence[float], calls: int = 1) -> Timing:
        """The statistics of the seconds a call that were sampled."""
        iqr = 0.0
        if len(samples) > 1:
            lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
            iqr = upper - lower
        return cls(statistics.median(samples), iqr, min(samples), len(samples), calls)


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: at least ``rounds`` rounds, more until ``budget`` seconds are spent, at most ``most``.

    A sample takes about ``sample`` seconds: that many calls are made in a row.
    """

    rounds: int = 7
    budget: float = 0.5
    most: int = 100
    sample: float = 0.005


QUICK = Effort(rounds=3, budget=0.1)

ON_GPU = Effort(rounds=3, budget=0.03, sample=0.002)
"""A program takes the same time again there."""


def usual_effort(quick: bool = False) -> Effort:
    """How long to measure where JAX computes: on a GPU few rounds, quick or not."""
    if jax.default_backend() != "cpu":
        return ON_GPU
    return QUICK if quick else Effort()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While no process with the same file TURN is timing. The system ends the turn of a process that is killed."""
    if TURN not in os.environ:
        yield
        return
    import fcntl

    with open(os.environ[TURN]) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def interleaved(
    sides: Mapping[str, Side],
    effort: Effort = Effort(),
    before: Callable[[str], Any] = lambda name: None,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time all sides, one sample of each a round; ``before`` is told whose turn it is, outside of what is timed.

    Every second round runs backwards: a side may leave the machine in a state that the next one pays for.
    """
    calls = {}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    with alone():
        for name, side in sides.items():
            before(name)
            calls[name] = _calls(side, effort.sample, clock)
        start, done = clock(), 0
        while done < effort.rounds or (done < effort.most and clock() - start < effort.budget):
            for name in list(sides) if done % 2 == 0 else reversed(sides):
                before(name)
                samples[name].append(_sample(sides[name], calls[name], clock))
            done += 1
    return {name: Timing.of(samples[name], calls[name]) for name in sides}


def _calls(side: Side, seconds: float, clock: Clock) -> int:
    """How many calls fill a sample, after one that warms up."""
    jax.block_until_ready(side())
    return max(1, min(1000, math.ceil(seconds / max(_sample(side, 1, clock), 1e-9))))


def _sample(side: Side, calls: int, clock: Clock) -> float:
    """The seconds a call of ``calls`` calls in a row, each waited for; what is not JAX's is ready when it returns."""
    start = clock()
    for _ in range(calls):
        jax.block_until_ready(side())
    return (clock() - start) / calls


def compiled(function: Callable[..., Any], *args: Any, clock: Clock = time.perf_counter) -> tuple[Side, float]:
    """The compiled function with its arguments as a side, and the seconds to trace, lower and compile it."""
    start = clock()
    program = jax.jit(function).lower(*args).compile()
    return functools.partial(program, *args), clock() - start


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean for ratios; of none, NaN."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
