"""What may become training data, and why the rest may not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from rapidfuzz.distance import Levenshtein

from speech.engines import Samples
from speech.text.script import is_cjk, is_repetitive, normalise
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.noise import clipped, snr
from speech.training.dataset.text import simplified, units


class Reason(StrEnum):
    """Why a segment is no training data."""

    NO_CONSENT = "no_consent"
    NOT_RETAINED = "not_retained"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NO_TEXT = "no_text"
    LANGUAGE = "language"
    DISAGREEMENT = "disagreement"
    UNREFINED = "unrefined"
    """Nobody corrected it, and only one model or none listened: whether they agree is unknown."""
    UNCERTAIN = "uncertain"
    REPETITION = "repetition"
    SPEECH_RATE = "speech_rate"
    NOISY = "noisy"
    CLIPPED = "clipped"
    DUPLICATE = "duplicate"
    """The same utterance is in already."""
    REPEATED_TEXT = "repeated_text"
    """The same words are in often enough already."""
    AUDIO_MISSING = "audio_missing"
    """Or damaged."""
    HELD_OUT_SPEAKER = "held_out_speaker"
    """Whose corrected speech is for validation, their uncorrected speech is for nothing."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The bounds. Raises ValueError, in a sentence, where they make no sense.

    Rates are characters a second, letters and digits alone. Alphabets are spoken at 10 to 20. A character of
    Han, kana or Hangul is a syllable or more: conversation has 3 to 8 a second, of which kana are the fastest.
    A digit is at least a syllable as well, whatever the script around it.
    """

    min_seconds: float = 0.5
    max_seconds: float = 30.0
    max_disagreement: float = 0.15
    """Share of characters in which the two models may differ."""
    min_confidence: float = 0.6
    min_rate: float = 2.0
    max_rate: float = 25.0
    min_rate_cjk: float = 1.0
    max_rate_cjk: float = 10.0
    min_snr: float = 10.0
    """dB."""
    max_clipped: float = 0.001
    """Share of samples at full scale."""
    languages: tuple[str, ...] = ("zh", "en", "yue", "ja", "ko")
    """Those that SenseVoice can be tuned on."""
    max_repeats: int = 3
    """How often one export may use the same words."""

    def __post_init__(self) -> None:
        for low, high in (
            ("min_seconds", "max_seconds"),
            ("min_rate", "max_rate"),
            ("min_rate_cjk", "max_rate_cjk"),
        ):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise ValueError(f"{low} must be more than 0 and at most {high}.")
        for share in ("max_disagreement", "min_confidence", "max_clipped"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"{share} must be a number from 0 to 1.")
        if self.max_repeats < 1:
            raise ValueError("max_repeats must be 1 or more.")
        if not self.languages or not all(self.languages):
            raise ValueError("languages must name at least one language.")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "languages": list(self.languages)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Filters:
        """What is not named keeps its default. Raises ValueError, in a sentence."""
        names = [field.name for field in fields(cls)]
        for name in data:
            if name not in names:
                raise ValueError(f"There is no filter called {name!r}; there are {', '.join(names)}.")
        return cls(**{name: _checked(name, value) for name, value in data.items()})


def _checked(name: str, value: object) -> Any:
    if name == "languages":
        if not isinstance(value, list | tuple) or not all(isinstance(code, str) for code in value):
            raise ValueError(f"{name} must be a list of language codes, not {value!r}.")
        return tuple(value)
    if name == "max_repeats":
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, not {value!r}.")
        return value
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, not {value!r}.")
    return float(value)


def _consent(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.consent else Reason.NO_CONSENT


def _retention(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.retained else Reason.NOT_RETAINED


def _duration(candidate: Candidate, filters: Filters) -> Reason | None:
    # a millisecond is the precision of times, not of bounds
    if candidate.seconds < filters.min_seconds - 0.001:
        return Reason.TOO_SHORT
    return Reason.TOO_LONG if candidate.seconds > filters.max_seconds + 0.001 else None


def _words(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if normalise(candidate.text) else Reason.NO_TEXT


def _language(candidate: Candidate, filters: Filters) -> Reason | None:
    return None if candidate.language in filters.languages else Reason.LANGUAGE


def _agreement(candidate: Candidate, filters: Filters) -> Reason | None:
    if candidate.human:
        return None
    if candidate.draft is None or candidate.refined is None:
        return Reason.UNREFINED
    apart = disagreement(candidate.draft, candidate.refined) > filters.max_disagreement
    return Reason.DISAGREEMENT if apart else None


def _confidence(candidate: Candidate, filters: Filters) -> Reason | None:
    sure = candidate.human or candidate.confidence >= filters.min_confidence
    return None if sure else Reason.UNCERTAIN


def _repetition(candidate: Candidate, filters: Filters) -> Reason | None:
    return Reason.REPETITION if is_repetitive(units(candidate.text)) else None


def _rate(candidate: Candidate, filters: Filters) -> Reason | None:
    """Whether the words, at the fastest or the slowest that their characters are spoken, would fill the time."""
    characters = normalise(candidate.text)
    syllables = sum(is_cjk(c) or "\uac00" <= c <= "\ud7af" or c.isdigit() for c in characters)
    letters = len(characters) - syllables
    shortest = letters / filters.max_rate + syllables / filters.max_rate_cjk
    longest = letters / filters.min_rate + syllables / filters.min_rate_cjk
    return None if shortest <= candidate.seconds <= longest else Reason.SPEECH_RATE


Filter = Callable[[Candidate, Filters], Reason | None]

FILTERS: tuple[Filter, ...] = (
    _consent,
    _retention,
    _duration,
    _words,
    _language,
    _agreement,
    _confidence,
    _repetition,
    _rate,
)
"""In the order in which they are asked: what must not be used comes before what is not worth using."""


def reject(candidate: Candidate, filters: Filters) -> Reason | None:
    """The first reason against a segment that its words and numbers give, None where it may be used."""
    return next((reason for ask in FILTERS if (reason := ask(candidate, filters))), None)


def reject_audio(samples: Samples, filters: Filters) -> Reason | None:
    """The reason against a segment that its sound gives."""
    if snr(samples) < filters.min_snr:
        return Reason.NOISY
    return Reason.CLIPPED if clipped(samples) > filters.max_clipped else None


def disagreement(a: str, b: str) -> float:
    """Edits from one text to the other over the length of the longer, from 0 to 1.

    Case, punctuation and width are no edits, nor are traditional for simplified characters, which models that
    agree on the word choose differently.
    """
    left, right = normalise(simplified(a)), normalise(simplified(b))
    return Levenshtein.distance(left, right) / max(len(left), len(right), 1)


def fingerprint(text: str, seconds: float) -> str:
    """The same for the same utterance, uploaded twice: of its words, and its length to a tenth of a second."""
    return hashlib.sha256(f"{normalise(text)} {seconds:.1f}".encode()).hexdigest()
