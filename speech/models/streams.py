"""How an engine uses its threads on a CPU: several computations side by side, not one made faster.

Measured on two cores: two windows with a thread each take half the time of the two one after the other with two
threads each (Whisper; 0.6 for CAM++, 0.85 for pyannote's segmentation). Threads within a small network mostly wait
for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_STREAMS = 4
"""Streams of an engine; further threads go into each of them, for a lone chunk on a large machine."""


def stream_count(threads: int) -> int:
    """Into how many streams so many threads are shared."""
    return min(threads, MAX_STREAMS)


class Streams:
    """So many computations at once, with so many threads each. Thread-safe."""

    def __init__(self, threads: int) -> None:
        self.count = stream_count(threads)
        self.threads = -(-threads // self.count)
        self._pool = ThreadPoolExecutor(self.count, "engine")

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """One result for each item, in order. Raises what the first that failed raised, once all are at rest."""
        if self.count == 1:
            return [work(item) for item in items]
        begun = [self._begin(work, item) for item in items]
        for left in wait(begun, return_when=FIRST_EXCEPTION).not_done:
            left.cancel()
        wait(begun)
        return [one.result() for one in begun]

    def _begin(self, work: Callable[[T], R], item: T) -> Future[R]:
        try:
            return self._pool.submit(work, item)
        except RuntimeError:
            # the interpreter is ending, and takes no more: what is under way is brought to its end here
            done: Future[R] = Future()
            done.set_result(work(item))
            return done
