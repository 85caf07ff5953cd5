"""How Whisper is to decode, and the state of a chunk while it is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from speech.text.words import Phrase


@dataclass(frozen=True, slots=True)
class Decoding:
    """Options of decoding. The limits are those of the Whisper paper."""

    beam_size: int = 1
    """A wider beam gained nothing on hesitant speech, at half the speed (``benchmarks/speech/engines.py``)."""
    temperatures: tuple[float, ...] = (0.0, 0.6)
    """Suspicious windows are decoded again, once each. More steps, or five samples at each as the paper has them,
    cost time and gained nothing: what repeats itself still does so at the fifth."""
    word_timestamps: bool = True
    """Times of words from cross-attention; otherwise spread over their phrase."""
    compression_limit: float = 2.4
    logprob_limit: float = -1.0
    no_speech_limit: float = 0.6
    min_rest_seconds: float = 1.0
    """Less than this left of a chunk is not worth another window."""
    max_prompt_temperature: float = 0.5
    """Text decoded at a higher temperature is not used as a prompt."""
    batch_size: int = 16
    """Most windows decoded at once; a longer list of utterances is worked off in parts."""


REFINE = Decoding()
DRAFT = Decoding(word_timestamps=False, logprob_limit=-2.0, max_prompt_temperature=-1)


@dataclass(slots=True)
class DecodedWindow:
    """The winning tokens of one window, and the model's measures of doubt."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float

    def is_silent(self, limits: Decoding) -> bool:
        return self.no_speech_prob > limits.no_speech_limit and self.avg_logprob < limits.logprob_limit

    def is_repetitive(self, limits: Decoding) -> bool:
        return self.compression_ratio > limits.compression_limit

    def is_suspicious(self, limits: Decoding) -> bool:
        """Whether it is to be decoded again at a higher temperature."""
        if self.is_silent(limits):
            return False
        return self.is_repetitive(limits) or self.avg_logprob < limits.logprob_limit


@dataclass(slots=True)
class ChunkState:
    """A chunk under way: how far it is decoded, and what was recognised so far."""

    features: NDArray[np.float32]
    """Log-mel, shape (bands, frames)."""
    language: str | None
    expected: str | None
    hotwords: list[int]
    previous: Sequence[Phrase]
    """Phrases of the chunks before."""
    prompt_tokens: list[int] = field(default_factory=list)
    """Tokens of the text before, timestamps among them."""
    seek: int = 0
    """First frame that is not decoded yet."""
    phrases: list[Phrase] = field(default_factory=list)
    windows: list[DecodedWindow] = field(default_factory=list)
    language_probabilities: Mapping[str, float] = field(default_factory=dict)
    """Empty where the language was given."""
    alternative: str | None = None
    """A second language that it may be in."""
    pieces: list[ChunkState] = field(default_factory=list)
    """Where the language changes the chunk is divided, and its pieces are decoded in its stead."""
    offset: int | None = None
    """First frame of a piece in its chunk; None for a whole chunk."""

    @property
    def frames(self) -> int:
        return int(self.features.shape[-1])

    @property
    def language_or_default(self) -> str:
        return self.language or "en"

    @property
    def parts(self) -> list[ChunkState]:
        """What is decoded: the pieces, or the chunk itself."""
        return self.pieces or [self]
