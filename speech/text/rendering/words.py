"""The words of a segment, whatever a model or a person left of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from speech.text.retiming import retime
from speech.text.words import Segment, Word


def timed_words(segment: Segment) -> Iterator[Word]:
    """Words without spaces inside; those that have some, or a segment without words, share their time."""
    if not segment.words:
        whole = retime((), segment.text, segment.start, segment.end)
        yield from (replace(word, confidence=segment.confidence) for word in whole)
    for word in segment.words:
        if " " in word.text:
            parts = retime((), word.text, word.start, word.end)
            yield from (replace(part, confidence=word.confidence) for part in parts)
        elif word.text:
            yield word
