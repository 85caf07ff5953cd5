"""A transcript as a TextGrid of Praat."""

from __future__ import annotations

import math
from collections.abc import Iterable

from praatio.utilities.textgrid_io import getTextgridAsStr

from speech.text.rendering.words import timed_words
from speech.text.transcript import Transcript
from speech.text.words import Segment

Interval = tuple[float, float, str]


def textgrid(transcript: Transcript) -> str:
    """Two tiers for each speaker, in the order in which they first speak: segments, and words.

    Intervals of a tier cannot overlap: one ends where the next begins, and lasts a millisecond at least.
    """
    said: dict[str | None, list[Segment]] = {}
    for segment in transcript.segments:
        said.setdefault(segment.speaker, []).append(segment)
    tiers: dict[str, list[Interval]] = {}
    for speaker, own in said.items() or [(None, [])]:
        prefix = f"{speaker} - " if speaker else ""
        tiers[f"{prefix}segments"] = _intervals((each.start, each.end, each.text) for each in own)
        words = (word for segment in own for word in timed_words(segment))
        tiers[f"{prefix}words"] = _intervals((word.start, word.end, word.text) for word in words)
    ends = [interval[1] for tier in tiers.values() for interval in tier]
    end = max([*ends, transcript.duration or 0.001])
    grid = {
        "xmin": 0.0,
        "xmax": end,
        "tiers": [
            {"class": "IntervalTier", "name": name, "xmin": 0.0, "xmax": end, "entries": intervals}
            for name, intervals in tiers.items()
        ],
    }
    return str(getTextgridAsStr(grid, "short_textgrid", includeBlankSpaces=True, minimumIntervalLength=None))


def _intervals(timed: Iterable[Interval]) -> list[Interval]:
    placed = sorted((round(start * 1000), round(end * 1000), text) for start, end, text in timed)
    intervals: list[Interval] = []
    at = 0
    following = [*(start for start, _, _ in placed[1:]), math.inf]
    for (start, end, text), next_start in zip(placed, following, strict=False):
        begin = max(start, at)
        at = max(end if next_start <= start else int(min(end, next_start)), begin + 1)
        intervals.append((begin / 1000, at / 1000, text))
    return intervals
