"""How Whisper decodes a window, and what one decoded window holds."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Task:
    """What the decoder is told: the language that is spoken, and whether to write it in English."""

    language: str
    translate: bool = False


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """The best token sequence of one window, with the model's quality signals."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    again: bool = False
    """Whether a first attempt at it was bad."""


LEAST_TOKENS = 8

LONGEST_REPEAT = 4
"""Tokens in a row that come twice in a window at most, when it is decoded again because it looped."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """The thresholds are those of the Whisper paper."""

    beam_size: int = 5
    fallback_temperature: float | None = 0.6
    """At which an improbable window is sampled once more; None to decode each window once. More temperatures, or
    five samples at each as in the paper, took longer and gained nothing."""
    word_timestamps: bool = True
    """Word times from cross-attention; otherwise a phrase's time is shared among its words."""
    compression_ratio_threshold: float = 2.4
    logprob_threshold: float = -1.0
    no_speech_threshold: float = 0.6
    min_rest_seconds: float = 1.0
    """A shorter rest of a chunk is not decoded as another window."""
    padding_seconds: float = 8.0
    """Silence that is encoded behind a window's audio, instead of all that is missing to 30 s. With none, some
    windows loop; with this much, clips of six seconds take two fifths of the time and lose nothing."""
    keeps_context: bool = True
    """Whether a window hears the text of the chunk's windows before it, unless that was decoded again."""
    tokens_per_second: float | None = None
    """Of a window at most, beside LEAST_TOKENS; None for as many as the model has room for."""
    second_readings: bool = False
    """Whether what is doubtful is read twice more, for a vote on the words."""
    batch_size: int = 64
    """Maximum windows decoded at once; more utterances are decoded in several batches. A worker
    gives it as many as its GPU has shown to be worth it."""

    def is_silent(self, window: DecodedWindow) -> bool:
        return window.no_speech_prob > self.no_speech_threshold and window.avg_logprob < self.logprob_threshold

    def is_repetitive(self, window: DecodedWindow) -> bool:
        return window.compression_ratio > self.compression_ratio_threshold

    def needs_fallback(self, window: DecodedWindow) -> bool:
        """Whether to decode it again."""
        if self.is_silent(window):
            return False
        return self.is_repetitive(window) or window.avg_logprob < self.logprob_threshold

    def max_tokens(self, seconds: float) -> int | None:
        """Of a window with so much audio; None for as many as the model has room for."""
        return None if self.tokens_per_second is None else LEAST_TOKENS + round(self.tokens_per_second * seconds)

    def better(self, first: DecodedWindow, second: DecodedWindow) -> DecodedWindow:
        """The second attempt if it is acceptable, else the more probable, preferring what is not repetitive."""
        if not self.needs_fallback(second):
            return second
        acceptable = [attempt for attempt in (first, second) if not self.is_repetitive(attempt)]
        return max(acceptable or (first, second), key=lambda attempt: attempt.avg_logprob)


REFINE = DecodingOptions()
DRAFT = DecodingOptions(beam_size=1, word_timestamps=False, logprob_threshold=-2.0, keeps_context=False)
LIVE = replace(DRAFT, tokens_per_second=16)
"""For an utterance that is decoded again and again while it grows.

Its beginning is often heard as a loop, of which the model would write all that it has room for: several seconds of
work for one of sound. (Less padding makes such loops frequent, and saves little.)"""
