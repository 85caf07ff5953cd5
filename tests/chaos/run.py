"""One run: calm first, then the same recordings again while everything fails in turn."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.chaos.audit import lost
from tests.chaos.faults import FAULTS, recordings
from tests.chaos.world import World, until

GAP = (0.3, 1.5)
"""Seconds between two faults."""


@dataclass
class Report:
    seed: int
    jobs: int
    seconds: float
    faults: Counter[str]
    lost: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        ran = f"seed {self.seed}: {self.jobs} jobs in {self.seconds:.0f} s"
        return f"{ran}, {self.faults.total()} faults ({counts}); lost: {'; '.join(self.lost) or 'nothing'}"


def calm(world: World) -> dict[str, Any]:
    """Each recording's transcript when nothing disturbs."""
    jobs = [world.submit(recording, {}) for recording in recordings()]
    world.finish()
    transcripts = {job.recording.name: world.transcript(job) for job in jobs}
    return transcripts


def storm(world: World, transcripts: dict[str, Any], *, seed: int, rounds: int, jobs: int) -> Report:
    """Every fault once in each round, in an order of the seed's, while jobs come in all along."""
    chance = random.Random(seed)
    begun = time.monotonic()
    names = [name for _ in range(rounds) for name in chance.sample(sorted(FAULTS), len(FAULTS))]
    coming = [chance.choice(recordings()) for _ in range(jobs)]
    injected: Counter[str] = Counter()

    def feed() -> None:
        for recording in coming:
            world.submit(recording, {})
            time.sleep(feeding.uniform(*GAP) * rounds * len(FAULTS) / jobs)

    feeding = random.Random(seed + 1)
    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    for name in names:
        time.sleep(chance.uniform(*GAP))
        FAULTS[name](world, chance)
        injected[name] += 1
    feeder.join()
    until(world.ready, "everything answers again")
    world.finish()
    return Report(seed, len(world.jobs), time.monotonic() - begun, injected, lost(world, transcripts))
