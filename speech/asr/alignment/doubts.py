"""Reasons to doubt the words of a hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from speech.text.redaction.kinds import PLACEHOLDER
from speech.text.repetition import is_repetitive
from speech.text.script import is_wrong_script, join_words, normalise
from speech.text.words import Hypothesis, Word, mean_confidence

MAX_COMPRESSION_RATIO = 2.4
MAX_NO_SPEECH_PROB = 0.6
MIN_AVG_LOGPROB = -1.0
MIN_DRAFT_CONFIDENCE = 0.5
"""Mean confidence from which a draft casts doubt on an empty refined hypothesis."""


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


def refinement_doubts(draft: Hypothesis | None, refined: Hypothesis | None) -> tuple[Reason, ...]:
    """The reasons to doubt the refined words."""
    if refined is None:
        return (Reason.REFINED_MISSING,)
    if not refined.words:
        confident = draft is not None and mean_confidence(draft.words) >= MIN_DRAFT_CONFIDENCE
        return (Reason.REFINED_EMPTY,) if confident else ()
    reasons = []
    signals = refined.signals
    if _is_repetitive(refined):
        reasons.append(Reason.REFINED_LOOPING)
    if signals.get("no_speech_prob", 0) > MAX_NO_SPEECH_PROB and signals.get("avg_logprob", 0) < MIN_AVG_LOGPROB:
        reasons.append(Reason.REFINED_HALLUCINATED)
    if _is_wrong_script(refined):
        reasons.append(Reason.REFINED_WRONG_LANGUAGE)
    if draft is not None and draft.words:
        # a difference of a few words means nothing, a multiple does
        redacted = [word for word in (*refined.words, *draft.words) if PLACEHOLDER.search(word.text)]
        refined_length, draft_length = _length(refined.words, redacted), _length(draft.words, redacted)
        if refined_length > 2 * draft_length + 5:
            reasons.append(Reason.REFINED_TOO_LONG)
        elif draft_length > 2 * refined_length + 5:
            reasons.append(Reason.REFINED_TOO_SHORT)
    return tuple(reasons)


def is_sound_draft(draft: Hypothesis | None) -> bool:
    """Whether a draft may replace refined words that are in doubt."""
    if draft is None or not draft.words:
        return False
    return not _is_wrong_script(draft) and not _is_repetitive(draft)


def _is_repetitive(hypothesis: Hypothesis) -> bool:
    ratio = hypothesis.signals.get("compression_ratio", 0)
    # one placeholder after the other stands for as many numbers
    texts = (
        PLACEHOLDER.sub(f"{place}", word.text) if "[" in word.text else word.text
        for place, word in enumerate(hypothesis.words)
    )
    return ratio > MAX_COMPRESSION_RATIO or is_repetitive(texts)


def _is_wrong_script(hypothesis: Hypothesis) -> bool:
    return any(
        is_wrong_script(PLACEHOLDER.sub("", join_words(words)), language)
        for language, words in hypothesis.by_language
    )


def _length(words: Sequence[Word], redacted: Sequence[Word]) -> int:
    """Letters and digits, in units of five, of what either says outside of what is redacted."""
    said = (
        word
        for word in words
        if not any(hidden.start <= (word.start + word.end) / 2 <= hidden.end for hidden in redacted)
    )
    return sum(len(normalise(word.text)) for word in said) // 5
