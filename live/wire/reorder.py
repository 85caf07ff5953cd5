"""Putting numbered items into their order again, after a network that loses and overtakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lost:
    """So many items in a row did not arrive."""

    count: int


class ReorderBuffer(Generic[T]):
    """Passes items on in order and once; waits a little for one that is missing, then gives it up.

    Nothing waits while nothing is missing. Pure: it is told the time, in seconds of any clock.
    """

    def __init__(self, *, depth: int, seconds: float) -> None:
        """A missing item is given up once ``depth`` later ones are here, or ``seconds`` after the first."""
        self._depth, self._seconds = depth, seconds
        self._next = 0
        self._early: dict[int, T] = {}
        self._deadline: float | None = None

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` has something to give up."""
        return self._deadline

    def push(self, seq: int, item: T, now: float) -> Iterator[T | Lost]:
        """What can be passed on with this item; it is dropped if it comes twice, or too late."""
        if seq < self._next:
            return
        self._early.setdefault(seq, item)
        yield from self._in_order(now)
        while len(self._early) >= self._depth:
            yield from self._give_up(now)

    def expire(self, now: float) -> Iterator[T | Lost]:
        """What can be passed on by now."""
        while self._deadline is not None and now >= self._deadline:
            yield from self._give_up(now)

    def flush(self) -> Iterator[T | Lost]:
        """All that is left: nothing more comes."""
        while self._early:
            yield from self._give_up(0.0)

    def _in_order(self, now: float) -> Iterator[T]:
        while self._next in self._early:
            self._next += 1
            self._deadline = None
            yield self._early.pop(self._next - 1)
        if self._early and self._deadline is None:
            self._deadline = now + self._seconds

    def _give_up(self, now: float) -> Iterator[T | Lost]:
        first = min(self._early)
        lost = Lost(first - self._next)
        self._next = first
        yield lost
        yield from self._in_order(now)
