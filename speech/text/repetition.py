"""Detecting repetition, as decoders produce it when they fail."""

from __future__ import annotations

from collections.abc import Iterable

from speech.text.script import normalise


def is_repetitive(words: Iterable[str], max_run_words: int = 8, min_times: int = 5) -> bool:
    """Whether a run of up to ``max_run_words`` words comes ``min_times`` times in a row."""
    units = [unit for unit in map(normalise, words) if unit]
    for length in range(1, min(max_run_words, len(units) // min_times) + 1):
        same = 0
        for unit, later in zip(units, units[length:], strict=False):
            same = same + 1 if unit == later else 0
            if same >= length * (min_times - 1):
                return True
    return False
