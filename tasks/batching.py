"""How many chunks a GPU is given at once, learnt from what batches take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

FIRST, MOST = 16, 64
"""Chunks at once: what is tried first, and more than which keeps short jobs waiting."""

MEASURED = 4
"""Full batches that the throughput of a size is taken from, after one in which memory is set up."""

WORTH = 1.1
"""What doubling has to win: without, all that it does is to make everybody wait longer."""

FREE = 0.5
"""Of the memory, before more is asked for: the engine holds what its largest batch took, and wants that twice."""


@dataclass(slots=True)
class LearntBatch:
    """The size of an engine's batches: doubled while that gains throughput and memory is free.

    Only full batches tell anything. For one thread at a time.
    """

    name: str
    free: Callable[[], float | None]
    """The part of the device's memory that is free; None where that cannot be told."""
    size: int = FIRST
    settled: bool = False
    _smaller: float = 0.0
    """Throughput with half the size, in seconds of speech a second; 0 for the first."""
    _seen: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of speech, and seconds, of full batches of this size."""

    def learn(self, chunks: int, speech: float, seconds: float) -> None:
        """A batch of that many chunks and seconds of speech took so many seconds."""
        if self.settled or chunks < self.size:
            return
        self._seen.append((speech, seconds))
        if len(self._seen) <= MEASURED:
            return
        throughput = sum(speech for speech, _ in self._seen[1:]) / sum(seconds for _, seconds in self._seen[1:])
        self._seen.clear()
        if throughput < WORTH * self._smaller:
            self.size, self.settled = self.size // 2, True
        elif self.size == MOST or not self._has_room():
            self.settled = True
        else:
            self.size, self._smaller = 2 * self.size, throughput
        logger.info(
            "%s takes %d chunks at once%s (%.0f s of speech a second with %d)",
            self.name,
            self.size,
            "" if self.settled else " next",
            throughput,
            chunks,
        )

    def _has_room(self) -> bool:
        free = self.free()
        # where it is not told, memory that runs out tells it, and costs no chunk anything
        return free is None or free >= FREE
