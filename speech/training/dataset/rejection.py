"""Checks a segment against the filters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from rapidfuzz.distance import Levenshtein

from speech.engines import Samples
from speech.text.redaction.kinds import PLACEHOLDER
from speech.text.repetition import is_repetitive
from speech.text.script import is_cjk, normalise
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.noise import clipped_share, snr
from speech.training.dataset.text import to_simplified, units


def _check_consent(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.consent else Reason.NO_CONSENT


def _check_retention(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.retained else Reason.NOT_RETAINED


def _check_duration(candidate: Candidate, filters: Filters) -> Reason | None:
    # times are precise to a millisecond
    if candidate.seconds < filters.min_seconds - 0.001:
        return Reason.TOO_SHORT
    return Reason.TOO_LONG if candidate.seconds > filters.max_seconds + 0.001 else None


def _check_text(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if normalise(candidate.text) else Reason.NO_TEXT


def _check_redaction(candidate: Candidate, filters: Filters) -> Reason | None:
    # whatever a person wrote in its place, the clip says it
    texts = (candidate.text, candidate.draft or "", candidate.refined or "")
    return Reason.REDACTED if any(map(PLACEHOLDER.search, texts)) else None


def _check_language(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.language in filters.languages else Reason.LANGUAGE


def _check_agreement(candidate: Candidate, filters: Filters) -> Reason | None:
    if candidate.human:
        return _check_correction(candidate, filters)
    if candidate.draft is None or candidate.refined is None:
        return Reason.UNREFINED
    differ = disagreement(candidate.draft, candidate.refined) > filters.max_disagreement
    return Reason.DISAGREEMENT if differ else None


def _check_correction(candidate: Candidate, filters: Filters) -> Reason | None:
    """What two models heard alike, and a person did not hear at all, was hardly said."""
    if candidate.draft is None or candidate.refined is None:
        return None
    changed = min(disagreement(text, candidate.text) for text in (candidate.draft, candidate.refined))
    alike = disagreement(candidate.draft, candidate.refined) < changed / 2
    return Reason.IMPLAUSIBLE if alike and changed > filters.max_correction else None


def _check_confidence(candidate: Candidate, filters: Filters) -> Reason | None:
    certain = candidate.human or candidate.confidence >= filters.min_confidence
    return None if certain else Reason.UNCERTAIN


def _check_repetition(candidate: Candidate, filters: Filters) -> Reason | None:
    return Reason.REPETITION if is_repetitive(units(candidate.text)) else None


def _check_rate(candidate: Candidate, filters: Filters) -> Reason | None:
    """Whether the duration is between those of the fastest and the slowest plausible speech of this text."""
    characters = normalise(candidate.text)
    syllables = sum(is_cjk(c) or "\uac00" <= c <= "\ud7af" or c.isdigit() for c in characters)
    letters = len(characters) - syllables
    shortest = letters / filters.max_rate + syllables / filters.max_rate_cjk
    longest = letters / filters.min_rate + syllables / filters.min_rate_cjk
    return None if shortest <= candidate.seconds <= longest else Reason.SPEECH_RATE


Check = Callable[[Candidate, Filters], Reason | None]

CHECKS: tuple[Check, ...] = (
    _check_consent,
    _check_retention,
    _check_duration,
    _check_text,
    _check_redaction,
    _check_language,
    _check_agreement,
    _check_confidence,
    _check_repetition,
    _check_rate,
)
"""In order: what must not be used comes before what is not worth using."""


def reject(candidate: Candidate, filters: Filters) -> Reason | None:
    """The first reason against a segment, without its audio; None where there is none."""
    return next((reason for check in CHECKS if (reason := check(candidate, filters))), None)


def reject_audio(samples: Samples, filters: Filters) -> Reason | None:
    """The reason against a segment from its audio; None where there is none."""
    if snr(samples) < filters.min_snr:
        return Reason.NOISY
    return Reason.CLIPPED if clipped_share(samples) > filters.max_clipped else None


def disagreement(a: str, b: str) -> float:
    """Edit distance over the length of the longer text, from 0 to 1.

    Case, punctuation and width do not count, nor does traditional against simplified Chinese: models that agree
    on the word may differ in the script.
    """
    left, right = normalise(to_simplified(a)), normalise(to_simplified(b))
    return Levenshtein.distance(left, right) / max(len(left), len(right), 1)


def fingerprint(text: str, seconds: float) -> str:
    """Equal for an utterance that is uploaded twice: a hash of its words and its length to 0.1 s."""
    return hashlib.sha256(f"{normalise(text)} {seconds:.1f}".encode()).hexdigest()
