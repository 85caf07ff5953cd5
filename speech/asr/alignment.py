"""Draft and refined words compared: which to trust, how surely, and how to divide them into segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count

from rapidfuzz.distance import Levenshtein

from speech.text.cleaning import single_line
from speech.text.numbers import with_digits
from speech.text.script import (
    ends_clause,
    ends_sentence,
    is_repetitive,
    is_wrong_script,
    join_words,
    normalise,
    normalise_width,
)
from speech.text.words import SEGMENTS_PER_CHUNK, Hypothesis, Segment, Source, Word, segment_index

MAX_SEGMENT_SECONDS = 12.0
MAX_SEGMENT_CHARACTERS = 200
SEGMENT_PAUSE = 0.8
"""Seconds of silence that divide segments."""

MIN_SENTENCE_SECONDS = 1.0
"""Seconds below which a sentence is not a segment of its own."""

COMPRESSION_LIMIT = 2.4
NO_SPEECH_LIMIT = 0.6
LOGPROB_LIMIT = -1.0
MIN_DRAFT_CONFIDENCE = 0.5
"""Mean confidence from which a draft is believed against a refined reading that heard nothing."""


class Reason(StrEnum):
    """Why the refined words of a chunk are in doubt."""

    REFINED_MISSING = "refined_missing"
    REFINED_EMPTY = "refined_empty"
    REFINED_LOOPING = "refined_looping"
    REFINED_HALLUCINATED = "refined_hallucinated"
    REFINED_WRONG_LANGUAGE = "refined_wrong_language"
    REFINED_TOO_LONG = "refined_too_long"
    REFINED_TOO_SHORT = "refined_too_short"
    DRAFT_UNSOUND = "draft_unsound"


@dataclass(frozen=True, slots=True)
class Alignment:
    """A chunk's final segments, whose words they are, and why not the refined ones if so."""

    segments: tuple[Segment, ...]
    source: Source
    reasons: tuple[Reason, ...] = ()


def align(
    draft: Hypothesis | None,
    refined: Hypothesis | None,
    *,
    chunk: int,
    start: float,
    end: float,
    digits: bool = False,
) -> Alignment:
    """Decide between two readings of the chunk that lies between ``start`` and ``end`` seconds.

    The refined words stand unless something speaks against them and the draft is sound. Every word of the
    result lies within the chunk, in order. With ``digits``, numbers that are spelled out are written in digits.
    """
    reasons = refinement_doubts(draft, refined)
    if reasons and not _is_usable(draft):
        reasons = (*reasons, Reason.DRAFT_UNSOUND)
    chosen_draft = bool(reasons) and Reason.DRAFT_UNSOUND not in reasons
    chosen, other = (draft, refined) if chosen_draft else (refined, draft)
    source = Source.DRAFT if chosen_draft else Source.REFINED
    runs = _weigh_by_agreement(chosen, other) if chosen else []
    if digits:
        runs = [(language, with_digits(words, language)) for language, words in runs]
    return Alignment(segment(runs, chunk=chunk, start=start, end=end, source=source), source, reasons)


def draft_segments(draft: Hypothesis, *, chunk: int, start: float, end: float) -> tuple[Segment, ...]:
    """A draft alone, divided as final segments are."""
    return segment(draft.by_language, chunk=chunk, start=start, end=end, source=Source.DRAFT)


def refinement_doubts(draft: Hypothesis | None, refined: Hypothesis | None) -> tuple[Reason, ...]:
    """What speaks against the refined words."""
    if refined is None:
        return (Reason.REFINED_MISSING,)
    if not refined.words:
        sure = draft is not None and _mean([word.confidence for word in draft.words]) >= MIN_DRAFT_CONFIDENCE
        return (Reason.REFINED_EMPTY,) if sure else ()
    found = []
    signals = refined.signals
    if signals.get("compression_ratio", 0) > COMPRESSION_LIMIT or is_repetitive(w.text for w in refined.words):
        found.append(Reason.REFINED_LOOPING)
    if signals.get("no_speech_prob", 0) > NO_SPEECH_LIMIT and signals.get("avg_logprob", 0) < LOGPROB_LIMIT:
        found.append(Reason.REFINED_HALLUCINATED)
    if _has_wrong_script(refined):
        found.append(Reason.REFINED_WRONG_LANGUAGE)
    if draft is not None and draft.words:
        # a few words either way mean nothing; a multiple does
        heard, drafted = _length_in_words(refined.words), _length_in_words(draft.words)
        if heard > 2 * drafted + 5:
            found.append(Reason.REFINED_TOO_LONG)
        elif drafted > 2 * heard + 5:
            found.append(Reason.REFINED_TOO_SHORT)
    return tuple(found)


def _length_in_words(words: Sequence[Word]) -> int:
    """Length in characters that count, in words of five."""
    return sum(len(normalise(word.text)) for word in words) // 5


def _is_usable(draft: Hypothesis | None) -> bool:
    if draft is None or not draft.words:
        return False
    ratio = draft.signals.get("compression_ratio", 0)
    if _has_wrong_script(draft):
        return False
    return ratio <= COMPRESSION_LIMIT and not is_repetitive(word.text for word in draft.words)


def _has_wrong_script(hypothesis: Hypothesis) -> bool:
    return any(is_wrong_script(join_words(words), language) for language, words in hypothesis.by_language)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


Runs = Sequence[tuple[str | None, Sequence[Word]]]
"""Words with the language they are in."""


def _weigh_by_agreement(chosen: Hypothesis, other: Hypothesis | None) -> Runs:
    """The words with the confidence that two readings give: half the doubt where both agree, more where not."""
    if other is None or not other.words:
        return chosen.by_language
    left, right = ([normalise(word.text) for word in hypothesis.words] for hypothesis in (chosen, other))
    same: set[int] = set()
    for block in Levenshtein.opcodes(left, right):
        if block.tag == "equal":
            same.update(range(block.src_start, block.src_end))
    place = count()
    return [
        (language, [_adjusted(word, agreed=next(place) in same) for word in words])
        for language, words in chosen.by_language
    ]


def _adjusted(word: Word, *, agreed: bool) -> Word:
    return replace(word, confidence=(1 + word.confidence) / 2 if agreed else word.confidence * 0.75)


def segment(runs: Runs, *, chunk: int, start: float, end: float, source: Source) -> tuple[Segment, ...]:
    """Divide words at sentence ends and pauses, where a segment grows too long, and where the language changes."""
    groups: list[tuple[str | None, list[Word]]] = []
    for language, words in runs:
        ordered = _ordered(words, groups[-1][1][-1].end if groups else start, end)
        groups += [(language, group) for group in _divide(ordered)]
    while len(groups) > SEGMENTS_PER_CHUNK:
        # pathological input alone comes here: a hundred sentences in thirty seconds
        pairs = [groups[i : i + 2] for i in range(0, len(groups), 2)]
        groups = [(pair[0][0], [word for _, words in pair for word in words]) for pair in pairs]
    return tuple(
        Segment(
            index=segment_index(chunk, position),
            chunk=chunk,
            start=group[0].start,
            end=group[-1].end,
            text=join_words(group),
            confidence=_mean([word.confidence for word in group]),
            source=source,
            language=language,
            words=tuple(group),
        )
        for position, (language, group) in enumerate(groups)
    )


def _ordered(words: Sequence[Word], start: float, end: float) -> list[Word]:
    """The words inside the chunk, none beginning before the one ahead of it has."""
    result, earliest = [], start
    for word in words:
        text = normalise_width(single_line(word.text))
        if not text:
            continue
        begin = min(max(_without_nan(word.start, earliest), earliest), end)
        until = min(max(_without_nan(word.end, begin), begin), end)
        confidence = min(max(_without_nan(word.confidence, 0.0), 0.0), 1.0)
        result.append(replace(word, text=text, start=begin, end=until, confidence=confidence))
        earliest = begin
    # a word gives way to the next one
    for i in range(len(result) - 1):
        if result[i].end > result[i + 1].start:
            result[i] = replace(result[i], end=result[i + 1].start)
    return result


def _without_nan(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _divide(words: Sequence[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _divides(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    return [part for group in groups for part in _shorten(group)]


def _divides(group: Sequence[Word], following: Word) -> bool:
    last = group[-1]
    if following.start - last.end > SEGMENT_PAUSE:
        return True
    return ends_sentence(last.text) and last.end - group[0].start >= MIN_SENTENCE_SECONDS


def _shorten(group: list[Word]) -> list[list[Word]]:
    """Halve what is too long for one segment, at the best place near its middle."""
    long = group[-1].end - group[0].start > MAX_SEGMENT_SECONDS or len(join_words(group)) > MAX_SEGMENT_CHARACTERS
    if not long or len(group) < 2:
        return [group]
    at = max(range(1, len(group)), key=lambda i: _break_score(group, i))
    return _shorten(group[:at]) + _shorten(group[at:])


def _break_score(group: Sequence[Word], at: int) -> float:
    """How good it is to divide before a word: after a clause, at a pause, near the middle."""
    pause = group[at].start - group[at - 1].end
    balance = 1 - abs(2 * at / len(group) - 1)
    return 2 * balance + min(pause, 1.0) + (1.0 if ends_clause(group[at - 1].text) else 0.0)
