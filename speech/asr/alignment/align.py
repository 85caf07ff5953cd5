"""Aligning a draft with its refinement: the words to use, and their confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from rapidfuzz.distance import Levenshtein

from speech.asr.alignment.doubts import Reason, is_sound_draft, refinement_doubts
from speech.asr.alignment.segments import LanguageRuns, divide_into_segments
from speech.text.numbers import with_digits
from speech.text.redaction.cover import cover
from speech.text.script import likeness, normalise
from speech.text.timeline import Timeline
from speech.text.vocabulary import NO_VOCABULARY, Vocabulary
from speech.text.words import Hypothesis, Segment, Source, Word, mean_confidence

MIN_UNHEARD_CONFIDENCE = 0.5
"""Refined words below this are left out where the draft has none: four in five of them were never said."""

MIN_WITNESS_AGREEMENT = 0.5
"""Of the draft's words: with less it is another reading altogether, and no witness against single words."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A chunk's final segments, whose words they are, and the reasons to doubt the refined words."""

    segments: tuple[Segment, ...]
    source: Source
    reasons: tuple[Reason, ...] = ()
    likeness: float | None = None
    """Of the words of draft and refinement, from 0 to 1; None where there is but one."""


def align(
    draft: Hypothesis | None,
    refined: Hypothesis | None,
    *,
    chunk: int,
    timeline: Timeline,
    digits: bool = False,
    vocabulary: Vocabulary = NO_VOCABULARY,
) -> Alignment:
    """Choose between two hypotheses of a chunk, which are in seconds of the recording.

    The refined words are used unless there is a reason to doubt them and the draft is sound; without those of low
    confidence that a sound draft has no counterpart for. What either has redacted is not said by the other. Every
    word of the result lies within the chunk, in order.
    Where the models were unsure, terms of the ``vocabulary`` take the place of what sounds like them.
    With ``digits``, numbers that are spelled out are written in digits.
    """
    reasons = refinement_doubts(draft, refined)
    if reasons and not is_sound_draft(draft):
        reasons = (*reasons, Reason.DRAFT_UNSOUND)
    use_draft = bool(reasons) and Reason.DRAFT_UNSOUND not in reasons
    chosen, other = (draft, refined) if use_draft else (refined, draft)
    source = Source.DRAFT if use_draft else Source.REFINED
    witness = refined is not None and not use_draft and is_sound_draft(draft)
    runs = _with_agreement(chosen, other, leave_out_unheard=witness) if chosen else []
    if other is not None:
        runs = [(language, cover(words, other.words)) for language, words in runs]
    by_sound = chosen is not None and not chosen.told_terms
    runs = [(language, vocabulary.apply(words, language, by_sound=by_sound)) for language, words in runs]
    if digits:
        runs = [(language, with_digits(words, language)) for language, words in runs]
    segments = divide_into_segments(runs, chunk=chunk, timeline=timeline, source=source)
    return Alignment(segments, source, reasons, _likeness(draft, refined))


def _likeness(draft: Hypothesis | None, refined: Hypothesis | None) -> float | None:
    return None if draft is None or refined is None else likeness(draft.words, refined.words)


def _with_agreement(chosen: Hypothesis, other: Hypothesis | None, *, leave_out_unheard: bool) -> LanguageRuns:
    """The chosen words: confidence rises where the other hypothesis agrees, and falls where it does not."""
    if other is None or not other.words:
        return chosen.by_language
    words = [word for _, run in chosen.by_language for word in run]
    left, right = ([normalise(word.text) for word in hypothesis] for hypothesis in (words, other.words))
    agreed: set[int] = set()
    unheard: set[int] = set()
    for block in Levenshtein.opcodes(left, right):
        positions = range(block.src_start, block.src_end)
        if block.tag == "equal":
            agreed.update(positions)
        elif block.tag == "delete" and _is_doubtful(words, positions):
            unheard.update(positions)
    if not leave_out_unheard or len(agreed) < MIN_WITNESS_AGREEMENT * len(right):
        unheard.clear()
    numbered = count()
    return [
        (
            language,
            [
                _adjust_confidence(word, agreed=position in agreed)
                for position, word in zip(numbered, run)  # noqa: B905 - the numbers go on in the next run
                if position not in unheard
            ],
        )
        for language, run in chosen.by_language
    ]


def _is_doubtful(words: Sequence[Word], positions: range) -> bool:
    """Whether no word of these is one part of a longer one, and their confidence is low."""
    whole = not any(word.glued for word in words[positions.start : positions.stop + 1])
    return whole and mean_confidence([words[i] for i in positions]) < MIN_UNHEARD_CONFIDENCE


def _adjust_confidence(word: Word, *, agreed: bool) -> Word:
    return replace(word, confidence=(1 + word.confidence) / 2 if agreed else word.confidence * 0.75)
