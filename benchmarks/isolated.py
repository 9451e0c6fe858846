"""Measurements in a process of their own, so that a side that hangs or crashes costs one entry and not the run.

JAX 0.10.2 on two cores waits for ever in some programs with two batched LAPACK calls: a kernel that runs on XLA's pool
of threads splits its batch onto the same pool. Nothing but the end of the process frees it.

Several such processes compile side by side, where there are processors for it, and take turns where they time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import os
import pathlib
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from benchmarks.timing import TURN

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_ARENA_MAX": "1"}
"""Settings with which glibc keeps what was freed.

Otherwise each call gets the pages of its larger arrays anew from the system, which on virtual machines can take
longer than all that is to be measured.
"""

THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Settings with which the threads of torch and NumPy sleep when they have nothing to do.

Otherwise they keep the processors busy for a while after a call, and the next side pays for it: LAPACK of one thread
took up to twice its time after a call of torch.
"""

Beat = Callable[..., None]
Task = Callable[[Beat, frozenset[str]], Any]
"""What is measured: it calls ``beat(side)`` (``beat(side, compiling=True)``) before each step of a side, ``beat(None)``
before it waits for its turn, and leaves out the sides in its second argument."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds that one step may take; a running step is given up earlier if its process does nothing at all."""

    running: float = 30.0
    compiling: float = 180.0
    idle: float = 5.0


class Worker:
    """A process that runs tasks one after the other, and is replaced when it hangs."""

    def __init__(self, limits: Limits = Limits()):
        self.limits = limits
        self._process: Any = None
        self._pipe: Any = None
        self._given_up = False
        self._changing = threading.Lock()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def run(self, task: Task) -> tuple[Any, dict[str, str]]:
        """The result of the task, without those sides that hung or crashed; and what happened to them."""
        failed: dict[str, str] = {}
        while True:
            kind, value = self._attempt(task, frozenset(failed))
            if kind == "result":
                return value, failed
            self._stop()
            side, reason = value
            if kind == "error" or side is None or side in failed:
                raise RuntimeError(f"the measurement of {task} failed: {reason}")
            failed[side] = reason

    def give_up(self) -> None:
        """What another thread calls to end what is running: that fails, and so does all that comes after."""
        with self._changing:
            self._given_up = True
            if self._process is not None:
                self._process.kill()

    def _attempt(self, task: Task, skip: frozenset[str]) -> tuple[str, Any]:
        """("result", what the task returned), ("stopped", (side, reason)) or ("error", (None, traceback))."""
        self._start()
        self._pipe.send((task, skip))
        side, compiling, limit, idle = None, False, self.limits.compiling, math.inf
        while True:
            if not self._waits_for_message(limit, idle):
                return "stopped", (side, "no end of compiling" if compiling else "hangs")
            try:
                kind, value = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                return "stopped", (side, "crashes")
            if kind != "beat":
                return kind, value
            side, compiling = value
            # who waits for its turn may wait: others hang at their own expense; and a compiler may be another process
            limit = math.inf if side is None else self.limits.compiling if compiling else self.limits.running
            idle = math.inf if side is None or compiling else self.limits.idle

    def _waits_for_message(self, limit: float, idle: float) -> bool:
        """Whether a message comes before the limit, and before the process has been idle for too long."""
        now = time.monotonic()
        end, busy, used = now + limit, now, _cpu_seconds(self._process.pid)
        while not self._pipe.poll(min(0.5, limit)):
            now, before, used = time.monotonic(), used, _cpu_seconds(self._process.pid)
            if used is None or before is None or used > before:
                busy = now
            if now > end or now - busy > idle:
                return False
        return True

    def _start(self) -> None:
        with self._changing:
            if self._given_up:
                raise RuntimeError("given up")
            if self._process is not None:
                return
            os.environ.update(ALLOCATOR | THREADS)
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._process = process

    def _stop(self) -> None:
        with self._changing:
            if self._process is None:
                return
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


class Workers:
    """Workers that prepare side by side what they measure, and time one after the other.

    Args:
        limits: those of each worker.
        jobs: how many there are. One process waits for the compiler most of the time, and a GPU for the process.
    """

    def __init__(self, limits: Limits = Limits(), jobs: int = 1):
        self._all = [Worker(limits) for _ in range(jobs)]
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Workers:
        if len(self._all) > 1:
            os.environ[TURN] = self._resources.enter_context(tempfile.NamedTemporaryFile()).name
            self._resources.callback(os.environ.pop, TURN)
        for worker in self._all:
            self._resources.enter_context(worker)
        return self

    def __exit__(self, *_: Any) -> None:
        self._resources.close()

    def map(self, function: Callable[[Item, Worker], Result], items: Iterable[Item]) -> Iterator[tuple[int, Result]]:
        """The place of each item, and ``function(item, worker)``, as soon as that is there."""
        free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._all:
            free.put(worker)

        def run(place: int, item: Item) -> tuple[int, Result]:
            worker = free.get()
            try:
                return place, function(item, worker)
            finally:
                free.put(worker)

        with ThreadPoolExecutor(len(self._all)) as threads:
            running = [threads.submit(run, place, item) for place, item in enumerate(items)]
            try:
                for done in as_completed(running):
                    yield done.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in self._all:
                    worker.give_up()
                raise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark that measures in workers."""
    parser.add_argument("--limit", type=float, default=Limits.running, help="seconds after which a call hangs")
    jobs = "processes that compile side by side, and compute in turn: for a GPU, whose host has many cores"
    parser.add_argument("--jobs", type=int, choices=range(1, 65), default=1, metavar="N", help=jobs)


def _serve(pipe: Connection) -> None:
    """The worker's side: run what comes through the pipe until it closes."""
    import jax

    jax.config.update("jax_enable_x64", True)
    # the last line of a traceback is to name the error
    jax.config.update("jax_traceback_filtering", "off")

    def beat(side: str | None, compiling: bool = False) -> None:
        pipe.send(("beat", (side, compiling)))

    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            task, skip = pipe.recv()
            try:
                pipe.send(("result", task(beat, skip)))
            except Exception:
                pipe.send(("error", (None, traceback.format_exc())))


def _cpu_seconds(pid: int) -> float | None:
    """The processor time that a process has used so far; None where the system does not tell."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
