"""Parallel computations of an engine on a CPU.

Measured on two cores: two windows in parallel, with one thread each, take half the time of the two in sequence
with two threads each (Whisper; 0.6 for CAM++, 0.85 for pyannote's segmentation). Threads within a small network
mostly wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_STREAMS = 4
"""Of one engine; further threads go into each of them, for a single chunk on a large machine."""


def stream_count(threads: int) -> int:
    """The number of streams that ``threads`` threads are divided among."""
    return min(threads, MAX_STREAMS)


class Streams:
    """Runs up to ``count`` computations at once, with ``threads`` threads each. Thread-safe."""

    def __init__(self, threads: int) -> None:
        self.count = stream_count(threads)
        self.threads = -(-threads // self.count)
        self._pool = ThreadPoolExecutor(self.count, "engine")

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """One result for each item, in order. Raises the error of the first that failed, once none is running."""
        if self.count == 1:
            return [work(item) for item in items]
        futures = [self._submit(work, item) for item in items]
        for future in wait(futures, return_when=FIRST_EXCEPTION).not_done:
            future.cancel()
        wait(futures)
        return [future.result() for future in futures]

    def _submit(self, work: Callable[[T], R], item: T) -> Future[R]:
        try:
            return self._pool.submit(work, item)
        except RuntimeError:
            # the interpreter is shutting down and accepts no more work: finish it in this thread
            done: Future[R] = Future()
            done.set_result(work(item))
            return done
