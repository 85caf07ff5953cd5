"""The state of one chunk while its windows are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from speech.asr.whisper.decoding import DecodedWindow, Task
from speech.text.words import Phrase


@dataclass(slots=True)
class ChunkState:
    """A chunk's features and language, its seek position, and the phrases decoded so far."""

    features: NDArray[np.float32]
    """Log-mel features, shape (bands, frames)."""
    language: str | None
    expected_language: str | None
    hotword_tokens: list[int]
    translate: bool
    context_tokens: list[int] = field(default_factory=list)
    """Tokens of the chunk's preceding windows, timestamps included."""
    before_frames: int = 0
    """At the beginning of the features, of speech before the chunk: no phrase of the chunk lies there."""
    before_tokens: list[int] = field(default_factory=list)
    """The transcript of that, which the first window's continues."""
    seek: int = 0
    """First frame of the next window."""
    phrases: list[Phrase] = field(default_factory=list)
    windows: list[DecodedWindow] = field(default_factory=list)
    language_probabilities: Mapping[str, float] = field(default_factory=dict)
    """Empty where the language was given."""
    alternative_language: str | None = None
    """A language that is nearly as probable as the selected one."""
    parts: list[ChunkState] = field(default_factory=list)
    """Where the language changes within the chunk, its parts are decoded instead of the chunk itself."""
    offset_frames: int | None = None
    """Where a part begins in its chunk; None for a whole chunk."""

    @property
    def given_frames(self) -> int:
        """At the beginning of the next window, whose transcript is known."""
        return self.before_frames if self.seek == 0 else 0

    @property
    def given_tokens(self) -> list[int]:
        """The transcript of these frames."""
        return self.before_tokens if self.seek == 0 else []

    @property
    def frames(self) -> int:
        return int(self.features.shape[-1])

    @property
    def decoding_language(self) -> str:
        """The selected language; English until there is one."""
        return self.language or "en"

    @property
    def task(self) -> Task:
        return Task(self.decoding_language, self.translate)

    @property
    def text_language(self) -> str:
        """The language of the decoded text."""
        return "en" if self.translate else self.decoding_language

    @property
    def decoded_units(self) -> Sequence[ChunkState]:
        """The chunk's parts, or the chunk itself where it is not divided."""
        return self.parts or [self]
