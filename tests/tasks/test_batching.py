"""What a GPU is given at once, against one that is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tasks.batching import FIRST, MEASURED, MOST, LearntBatch

CHUNK_SECONDS = 25.0


@dataclass
class Gpu:
    """Does up to ``width`` chunks in the time of one, and holds the memory of the largest batch."""

    width: int
    holds: int
    """Chunks that fill its memory."""
    largest: int = 0

    def take(self, chunks: int) -> float:
        self.largest = max(self.largest, chunks)
        return 0.1 + 0.8 * max(1.0, chunks / self.width)

    def free(self) -> float:
        return 1 - self.largest / self.holds


def learn(gpu: Gpu, *, part: float = 1) -> LearntBatch:
    learnt = LearntBatch("large", gpu.free)
    for _ in range(10 * MEASURED):
        chunks = int(learnt.size * part)
        learnt.learn(chunks, chunks * CHUNK_SECONDS, gpu.take(chunks))
    return learnt


@pytest.mark.parametrize(
    ("gpu", "size", "largest"),
    [
        (Gpu(width=256, holds=1000), MOST, MOST),
        (Gpu(width=32, holds=1000), 32, 64),
        (Gpu(width=8, holds=1000), FIRST, 32),
        (Gpu(width=256, holds=60), 32, 32),
        (Gpu(width=256, holds=20), FIRST, FIRST),
    ],
    ids=["wide", "as wide as 32", "small", "little memory", "no memory"],
)
def test_it_grows_while_that_is_worth_it(gpu: Gpu, size: int, largest: int) -> None:
    learnt = learn(gpu)
    assert (learnt.size, learnt.settled) == (size, True)
    assert gpu.largest == largest


def test_what_is_not_full_tells_nothing() -> None:
    learnt = learn(Gpu(width=256, holds=1000), part=0.9)
    assert (learnt.size, learnt.settled) == (FIRST, False)


def test_a_first_batch_that_sets_memory_up_does_not_count() -> None:
    learnt = LearntBatch("large", lambda: None)
    for seconds in (60.0, *[1.0] * MEASURED, 60.0, *[1.0] * MEASURED):
        learnt.learn(learnt.size, learnt.size * CHUNK_SECONDS, seconds)
    assert learnt.size == MOST
