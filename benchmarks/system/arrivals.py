"""A made-up day of recordings, such as a service gets: by day more than by night, in bursts, a few very long."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from db.models import Priority

T = TypeVar("T")

DAY = 86_400.0
TENANTS = {"large": 0.5, "middle": 0.25, "small": 0.15, "tiny": 0.1}
"""What part of all recordings each sends."""
PRIORITIES = {Priority.HIGH: 0.1, Priority.NORMAL: 0.7, Priority.LOW: 0.2}
LONG_SECONDS, LONG_SHARE = 36_000.0, 0.01
BURST_SHARE = 0.05
"""Of what comes, how much is the first of a folder that is sent at once."""
BURST_SIZES = (10, 40)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A recording of so many seconds, ``at`` seconds after midnight."""

    at: float
    tenant: str
    priority: Priority
    seconds: float


def make_day(hours: float, seed: int) -> Sequence[Arrival]:
    """Recordings of so many hours in all, in the order in which they come."""
    rng = random.Random(seed)
    day: list[Arrival] = []
    left = hours * 3600
    while left > 0:
        at = _time_of_day(rng)
        tenant = _choose(rng, TENANTS)
        priority = _choose(rng, PRIORITIES)
        size = rng.randint(*BURST_SIZES) if rng.random() < BURST_SHARE else 1
        folder = [
            Arrival(at + rng.uniform(0, 60) * (size > 1), tenant, priority, _length(rng)) for _ in range(size)
        ]
        left -= sum(arrival.seconds for arrival in folder)
        day += folder
    return sorted(day, key=lambda arrival: arrival.at)


def _time_of_day(rng: random.Random) -> float:
    """Most at two in the afternoon, a seventh of that at two in the night."""
    while True:
        at = rng.uniform(0, DAY)
        if rng.random() < (4 - 3 * math.cos(2 * math.pi * (at / DAY - 2 / 24))) / 7:
            return at


def _length(rng: random.Random) -> float:
    """Eight minutes in the median."""
    if rng.random() < LONG_SHARE:
        return LONG_SECONDS
    return min(max(rng.lognormvariate(math.log(480), 1.0), 10.0), LONG_SECONDS / 2)


def _choose(rng: random.Random, shares: dict[T, float]) -> T:
    return rng.choices(list(shares), list(shares.values()))[0]
