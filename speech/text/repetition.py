"""Detecting repetition, as decoders produce it when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from speech.text.script import normalise

T = TypeVar("T")

MAX_RUN_WORDS = 8
MIN_TIMES = 5
"""So many times in a row no one says the same; a "no, no, no, no" is believed."""


def is_repetitive(words: Iterable[str], max_run_words: int = MAX_RUN_WORDS, min_times: int = MIN_TIMES) -> bool:
    """Whether a run of up to ``max_run_words`` words comes ``min_times`` times in a row."""
    units = [unit for unit in map(normalise, words) if unit]
    return _find_loop(units, max_run_words, min_times) is not None


def drop_repeats(items: Sequence[T], key: Callable[[T], str]) -> list[T]:
    """The items without the repeats of any run that comes ``MIN_TIMES`` times in a row: its first time is kept."""
    spoken = [(item, unit) for item in items if (unit := normalise(key(item)))]
    while loop := _find_loop([unit for _, unit in spoken], MAX_RUN_WORDS, MIN_TIMES):
        start, length = loop
        end = start + length
        while end < len(spoken) and spoken[end][1] == spoken[end - length][1]:
            end += 1
        del spoken[start + length : end]
    return [item for item, _ in spoken]


def _find_loop(units: Sequence[str], max_run_words: int, min_times: int) -> tuple[int, int] | None:
    """Where the first loop starts, and the length of the run that it repeats."""
    for length in range(1, min(max_run_words, len(units) // min_times) + 1):
        same = 0
        for at, (unit, later) in enumerate(zip(units, units[length:], strict=False)):
            same = same + 1 if unit == later else 0
            if same >= length * (min_times - 1):
                return at + 1 - same, length
    return None
