"""Times for the words of a text that has none, from whatever timed most of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speech.text.retiming import retime
from speech.text.words import Word

LEAST_SECONDS = 0.02
"""No word is shorter: aligners give some the same start and end, or give all the time to their neighbours."""

CHARACTER_SECONDS = 0.06
MOST_SECONDS = 1.5
"""A longer word is one that shares a pause with what stood there before."""


def timed(text: str, units: Sequence[Word], duration: float) -> tuple[Word, ...]:
    """The words of a text, timed by words that say about the same, or evenly where there are none.

    Each word lasts, none begins before the one before it, and all lie in 0..``duration``, which must be positive.
    """
    placed = retime(sorted(units, key=lambda unit: unit.start), text, 0.0, duration)
    return tuple(_lasting(_shortened(_in_order(placed, duration)), duration))


def degenerate(units: Sequence[Word]) -> bool:
    """Whether an aligner has failed: most of what it timed has no duration, or lies on one spot."""
    lasting = {unit.start for unit in units if unit.end - unit.start >= LEAST_SECONDS}
    return 2 * len(lasting) < len(units)


def _in_order(words: Sequence[Word], duration: float) -> list[Word]:
    ordered: list[Word] = []
    for word in words:
        start = min(max(word.start, ordered[-1].start if ordered else 0.0), duration)
        ordered.append(replace(word, start=start, end=min(max(word.end, start), duration)))
    for place, after in enumerate(ordered[1:]):
        ordered[place] = replace(ordered[place], end=min(ordered[place].end, after.start))
    return ordered


def _shortened(words: Sequence[Word]) -> list[Word]:
    """The first word ends where it did, all others begin where they did."""
    shortened = []
    for place, word in enumerate(words):
        if word.end - word.start > MOST_SECONDS:
            first = place == 0
            start = word.end - MOST_SECONDS if first else word.start
            word = replace(word, start=start, end=word.end if first else start + MOST_SECONDS)
        shortened.append(word)
    return shortened


def _lasting(words: list[Word], duration: float) -> list[Word]:
    """Words without duration take some from the silence beside them, else from their neighbours."""
    for place, word in enumerate(words):
        if word.end - word.start < LEAST_SECONDS:
            wanted = CHARACTER_SECONDS * len(word.text)
            before = words[place - 1].end if place else 0.0
            after = words[place + 1].start if place + 1 < len(words) else duration
            end = min(word.start + wanted, max(after, word.start))
            words[place] = replace(word, start=max(min(word.start, end - wanted), before), end=end)
    place = 0
    while place < len(words):
        if words[place].end - words[place].start < LEAST_SECONDS:
            place = _share(words, place, duration)
        place += 1
    return words


def _share(words: list[Word], place: int, duration: float) -> int:
    """Divide the time of the nearest words that have enough of it between them. Returns the last of them."""
    first = last = place
    while words[last].end - words[first].start < LEAST_SECONDS * (last - first + 1):
        if first == 0 and last + 1 == len(words):
            return _spread(words, first, last, 0.0, duration)
        first, last = max(first - 1, 0), min(last + 1, len(words) - 1)
    return _spread(words, first, last, words[first].start, words[last].end)


def _spread(words: list[Word], first: int, last: int, start: float, end: float) -> int:
    """Share a time by the lengths of words. Returns the last of them."""
    length = sum(len(word.text) for word in words[first : last + 1])
    at = start
    for place in range(first, last + 1):
        until = at + (end - start) * len(words[place].text) / length
        words[place] = replace(words[place], start=at, end=until)
        at = until
    return last
