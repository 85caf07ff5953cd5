"""Dividing the words of a chunk into segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from speech.text.cleaning import single_line
from speech.text.script import ends_clause, ends_sentence, join_words, normalise_script
from speech.text.timeline import Timeline
from speech.text.words import (
    SEGMENTS_PER_CHUNK,
    Hypothesis,
    Segment,
    Source,
    Word,
    mean_confidence,
    segment_index,
)

MAX_SEGMENT_SECONDS = 12.0
MAX_SEGMENT_CHARACTERS = 200
MIN_PAUSE_SECONDS = 0.8
"""Silence that divides segments."""

MIN_SENTENCE_SECONDS = 1.0
"""A shorter sentence is not a segment of its own."""

LanguageRuns = Sequence[tuple[str | None, Sequence[Word]]]
"""Words with the language they are in."""


def draft_segments(draft: Hypothesis, *, chunk: int, timeline: Timeline) -> tuple[Segment, ...]:
    """The segments of a draft alone."""
    segments = divide_into_segments(draft.by_language, chunk=chunk, timeline=timeline, source=Source.DRAFT)
    return tuple(replace(segment, provisional=True) for segment in segments)


def divide_into_segments(
    runs: LanguageRuns, *, chunk: int, timeline: Timeline, source: Source
) -> tuple[Segment, ...]:
    """Divide words at sentence ends, pauses and what was left out, and where a segment grows too long or the
    language changes.
    """
    groups: list[tuple[str | None, list[Word]]] = []
    for language, words in runs:
        ordered = _clean_words(words, groups[-1][1][-1].end if groups else timeline.start, timeline.end)
        groups += [(language, group) for group in _group_words(ordered, timeline)]
    while len(groups) > SEGMENTS_PER_CHUNK:
        # only for pathological input: a hundred sentences in thirty seconds
        pairs = [groups[i : i + 2] for i in range(0, len(groups), 2)]
        groups = [(pair[0][0], [word for _, words in pair for word in words]) for pair in pairs]
    return tuple(
        Segment(
            index=segment_index(chunk, position),
            chunk=chunk,
            start=group[0].start,
            end=group[-1].end,
            text=join_words(group),
            confidence=mean_confidence(group),
            source=source,
            language=language,
            words=tuple(group),
        )
        for position, (language, group) in enumerate(groups)
    )


def _clean_words(words: Sequence[Word], start: float, end: float) -> list[Word]:
    """Words with normalised script, inside the chunk, in order of their start, without overlap."""
    cleaned, earliest = [], start
    for word in words:
        text = normalise_script(single_line(word.text))
        if not text:
            continue
        word_start = min(max(_finite(word.start, earliest), earliest), end)
        word_end = min(max(_finite(word.end, word_start), word_start), end)
        confidence = min(max(_finite(word.confidence, 0.0), 0.0), 1.0)
        cleaned.append(replace(word, text=text, start=word_start, end=word_end, confidence=confidence))
        earliest = word_start
    for i in range(len(cleaned) - 1):
        if cleaned[i].end > cleaned[i + 1].start:
            cleaned[i] = replace(cleaned[i], end=cleaned[i + 1].start)
    return cleaned


def _finite(value: float, default: float) -> float:
    return value if math.isfinite(value) else default


def _group_words(words: Sequence[Word], timeline: Timeline) -> list[list[Word]]:
    """The words of each segment."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _is_boundary(groups[-1], word, timeline):
            groups[-1].append(word)
        else:
            groups.append([word])
    return [part for group in groups for part in _halve_long(group)]


def _is_boundary(group: Sequence[Word], next_word: Word, timeline: Timeline) -> bool:
    last = group[-1]
    pause = next_word.start - last.end
    if pause > MIN_PAUSE_SECONDS or timeline.divides(last.start, next_word.start):
        return True
    return ends_sentence(last.text) and last.end - group[0].start >= MIN_SENTENCE_SECONDS


def _halve_long(group: list[Word]) -> list[list[Word]]:
    """Halve what is too long for one segment, at the best place near its middle."""
    seconds = group[-1].end - group[0].start
    too_long = seconds > MAX_SEGMENT_SECONDS or len(join_words(group)) > MAX_SEGMENT_CHARACTERS
    if not too_long or len(group) < 2:
        return [group]
    middle = max(range(1, len(group)), key=lambda i: _boundary_score(group, i))
    return _halve_long(group[:middle]) + _halve_long(group[middle:])


def _boundary_score(group: Sequence[Word], at: int) -> float:
    """How good it is to divide before a word: after a clause, at a pause, near the middle."""
    pause = group[at].start - group[at - 1].end
    balance = 1 - abs(2 * at / len(group) - 1)
    return 2 * balance + min(pause, 1.0) + (1.0 if ends_clause(group[at - 1].text) else 0.0)
