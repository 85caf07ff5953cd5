"""Waveforms at the resolution that somebody draws them in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waveform:
    """The peaks of a recording as they are stored: one byte each, equally long but for the last."""

    stored: bytes
    duration: float
    """Of all, in seconds."""

    def reduced(self, points: int, start: float, end: float) -> tuple[float, float, list[int]]:
        """At most so many peaks of a span, and the times in seconds at which they begin and end."""
        count = len(self.stored)
        if not count or not self.duration:
            return 0.0, 0.0, []
        seconds = self.duration / count
        first = min(math.floor(start / seconds), count)
        last = max(min(math.ceil(end / seconds), count), first)
        each = max(math.ceil((last - first) / points), 1)
        peaks = [max(self.stored[at : min(at + each, last)]) for at in range(first, last, each)]
        # the last one may be shorter; it is drawn as long as the others
        return first * seconds, (first + len(peaks) * each) * seconds, peaks
