"""Dividing and joining segments. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speech.text.script import join_words
from speech.text.words import Segment, Source, Word, mean_confidence


def divide(segment: Segment, at: int) -> tuple[Segment, Segment]:
    """The first ``at`` words, and the others, under the same index. Joining the two gives the words again.

    ``at`` is from 1 to the number of words less one.
    """
    return _parts(segment, at, segment.words[at].start)


def divide_at_time(segment: Segment, seconds: float) -> tuple[Segment, Segment]:
    """The words whose middle lies before a time within the segment, and the others. Either may have none."""
    return _parts(segment, sum((word.start + word.end) / 2 < seconds for word in segment.words), seconds)


def _parts(segment: Segment, at: int, seconds: float) -> tuple[Segment, Segment]:
    before, after = segment.words[:at], segment.words[at:]
    boundary = min(max(seconds, segment.start), segment.end)
    end = min(before[-1].end if before else boundary, boundary)
    return (
        _with_words(segment, before, segment.start, max(end, segment.start)),
        _with_words(segment, after, boundary, segment.end),
    )


def _with_words(segment: Segment, words: Sequence[Word], start: float, end: float) -> Segment:
    sure = 1.0 if segment.source is Source.HUMAN else mean_confidence(words)
    return replace(segment, start=start, end=end, text=join_words(words), words=tuple(words), confidence=sure)


def join(first: Segment, second: Segment) -> Segment:
    """One segment of both, with the index and the speaker of the first.

    It counts as a person's text if both parts do, and else as what the models wrote.
    """
    parts = [part for part in (first, second) if part.text]
    count = len(first.words) + len(second.words)
    sources = [part.source for part in parts] or [first.source]
    return replace(
        first,
        start=min(first.start, second.start),
        end=max(first.end, second.end),
        text=_join_texts(first, second),
        words=first.words + second.words,
        confidence=(
            (first.confidence * len(first.words) + second.confidence * len(second.words)) / count
            if count
            else first.confidence
        ),
        source=next((source for source in sources if source is not Source.HUMAN), sources[0]),
        language=first.language if len(first.text) >= len(second.text) else second.language,
        speaker=first.speaker or second.speaker,
    )


def _join_texts(first: Segment, second: Segment) -> str:
    """With a space where the script has one."""
    if not second.text:
        return first.text
    glued = bool(second.words) and second.words[0].glued
    return join_words(
        [Word(part.text, 0.0, 0.0, 1.0, glued=glued) for part in (first, second) if part.text],
    )
