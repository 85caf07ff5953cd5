"""The filters for training data, and the reasons for rejection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a segment is rejected."""

    NO_CONSENT = "no_consent"
    NOT_RETAINED = "not_retained"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NO_TEXT = "no_text"
    REDACTED = "redacted"
    """Its text leaves out what is said in its audio."""
    LANGUAGE = "language"
    DISAGREEMENT = "disagreement"
    UNREFINED = "unrefined"
    """Nobody corrected it, and fewer than two models transcribed it: whether they agree is unknown."""
    IMPLAUSIBLE = "implausible"
    """A correction that has next to nothing of what both models heard alike."""
    UNCERTAIN = "uncertain"
    REPETITION = "repetition"
    SPEECH_RATE = "speech_rate"
    NOISY = "noisy"
    CLIPPED = "clipped"
    DUPLICATE = "duplicate"
    """The same utterance was accepted already."""
    REPEATED_TEXT = "repeated_text"
    """The same text was accepted ``max_repeats`` times already."""
    AUDIO_MISSING = "audio_missing"
    """The audio is gone or damaged."""
    HELD_OUT_SPEAKER = "held_out_speaker"
    """The speaker's corrected speech is in the validation split; their uncorrected speech is not used."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Bounds that segments must meet. Raises ValueError, in a sentence, where they contradict each other.

    Rates are letters and digits a second. Alphabetic scripts are spoken at 10 to 20. A character of Han, kana or
    Hangul is a syllable or more: conversation has 3 to 8 a second, and kana are the fastest. A digit is at least
    a syllable in any script.
    """

    min_seconds: float = 0.5
    max_seconds: float = 30.0
    max_disagreement: float = 0.15
    """Share of characters in which the two models may differ."""
    max_correction: float = 0.7
    """Share of characters in which a correction may differ from both models' texts."""
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
    """The languages that SenseVoice can be tuned on."""
    max_repeats: int = 3
    """How often one export may contain the same text."""

    def __post_init__(self) -> None:
        for low, high in (
            ("min_seconds", "max_seconds"),
            ("min_rate", "max_rate"),
            ("min_rate_cjk", "max_rate_cjk"),
        ):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise ValueError(f"{low} must be more than 0 and at most {high}.")
        for share in ("max_disagreement", "max_correction", "min_confidence", "max_clipped"):
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
        """Missing filters keep their defaults. Raises ValueError, in a sentence."""
        names = [field.name for field in fields(cls)]
        for name in data:
            if name not in names:
                raise ValueError(f"There is no filter called {name!r}; there are {', '.join(names)}.")
        return cls(**{name: _parse_value(name, value) for name, value in data.items()})


def _parse_value(name: str, value: object) -> Any:
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
