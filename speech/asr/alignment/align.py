"""Aligning a draft with its refinement: the words to use, and their confidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

from rapidfuzz.distance import Levenshtein

from speech.asr.alignment.doubts import Reason, is_sound_draft, refinement_doubts
from speech.asr.alignment.segments import LanguageRuns, divide_into_segments
from speech.text.numbers import with_digits
from speech.text.script import normalise
from speech.text.timeline import Timeline
from speech.text.words import Hypothesis, Segment, Source, Word


@dataclass(frozen=True, slots=True)
class Alignment:
    """A chunk's final segments, whose words they are, and the reasons to doubt the refined words."""

    segments: tuple[Segment, ...]
    source: Source
    reasons: tuple[Reason, ...] = ()


def align(
    draft: Hypothesis | None,
    refined: Hypothesis | None,
    *,
    chunk: int,
    timeline: Timeline,
    digits: bool = False,
) -> Alignment:
    """Choose between two hypotheses of a chunk, which are in seconds of the recording.

    The refined words are used unless there is a reason to doubt them and the draft is sound. Every word of the
    result lies within the chunk, in order. With ``digits``, numbers that are spelled out are written in digits.
    """
    reasons = refinement_doubts(draft, refined)
    if reasons and not is_sound_draft(draft):
        reasons = (*reasons, Reason.DRAFT_UNSOUND)
    use_draft = bool(reasons) and Reason.DRAFT_UNSOUND not in reasons
    chosen, other = (draft, refined) if use_draft else (refined, draft)
    source = Source.DRAFT if use_draft else Source.REFINED
    runs = _with_agreement(chosen, other) if chosen else []
    if digits:
        runs = [(language, with_digits(words, language)) for language, words in runs]
    return Alignment(divide_into_segments(runs, chunk=chunk, timeline=timeline, source=source), source, reasons)


def _with_agreement(chosen: Hypothesis, other: Hypothesis | None) -> LanguageRuns:
    """The chosen words: confidence rises where the other hypothesis agrees, and falls where it does not."""
    if other is None or not other.words:
        return chosen.by_language
    left, right = ([normalise(word.text) for word in hypothesis.words] for hypothesis in (chosen, other))
    agreed: set[int] = set()
    for block in Levenshtein.opcodes(left, right):
        if block.tag == "equal":
            agreed.update(range(block.src_start, block.src_end))
    position = count()
    return [
        (language, [_adjust_confidence(word, agreed=next(position) in agreed) for word in words])
        for language, words in chosen.by_language
    ]


def _adjust_confidence(word: Word, *, agreed: bool) -> Word:
    return replace(word, confidence=(1 + word.confidence) / 2 if agreed else word.confidence * 0.75)
