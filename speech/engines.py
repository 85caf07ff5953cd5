"""The Protocols that engines stand behind, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speech.text.words import Hypothesis, Phrase, Turn

Samples = NDArray[np.float32]
"""Mono audio at SAMPLE_RATE, float32 in -1..1, shape (samples,)."""

SAMPLE_RATE = 16_000


class EngineUnavailable(Exception):
    """An engine cannot load here. The message is one sentence: which engine, what is missing, what to do."""


def out_of_memory(error: Exception) -> bool:
    """Whether an engine failed for want of memory, of the GPU or the machine, in the words of our runtimes."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("out of memory", "failed to allocate memory", "alloc_failed", "bad_alloc")
    )


def device_lost(error: Exception) -> bool:
    """Whether a GPU failed in a way that no later call of this process survives."""
    said = str(error).lower()
    return not out_of_memory(error) and any(words in said for words in ("cuda", "cudnn", "cublas"))


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a job records about the engine that served it."""

    engine: str
    model: str
    device: str
    compute_type: str
    instead_of: str | None = None
    """The preferred engine or model that could not serve, where this one stands in for it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One chunk to transcribe, with what is known about it."""

    samples: Samples
    language: str | None = None
    """ISO 639-1 code (also ``yue``), or None to detect it."""
    expected: str | None = None
    """What it is most probably in, where nobody has said; another language is to be heard clearly."""
    history: tuple[Phrase, ...] = ()
    """What was said before, oldest first; times count from the start of each phrase's own chunk."""
    hotwords: tuple[str, ...] = ()


class Transcriber(Protocol):
    """Turns chunks of at most 30 s into hypotheses; times count from each chunk's own start."""

    info: EngineInfo

    @property
    def languages(self) -> frozenset[str]:
        """The ISO codes that it can be asked for."""
        ...

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order."""
        ...


@runtime_checkable
class LanguageDetector(Protocol):
    """A transcriber that wants to be told the language, and can find it out for a whole recording beforehand."""

    def detect_language(self, utterance: Utterance) -> str:
        """The language that the utterance most probably is in."""
        ...


class VoiceModel(Protocol):
    """A loaded voice detector; any number of recordings stream through it at once."""

    def stream(self) -> VoiceDetector: ...


class VoiceDetector(Protocol):
    """Gives the probability of speech for each frame of a stream; one instance serves one recording."""

    @property
    def frame_samples(self) -> int: ...

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Probabilities of the frames that these samples complete; keeps the rest for the next call."""
        ...

    def flush(self) -> NDArray[np.float32]:
        """The probability of the last, zero-padded frame, or an empty array; the stream is then over."""
        ...


class Embedder(Protocol):
    """Turns speech of one speaker into a voiceprint."""

    info: EngineInfo

    @property
    def dimensions(self) -> int: ...

    def embed(self, windows: Sequence[Samples]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (windows, dimensions); windows of equal length run as one batch."""
        ...


class Segmenter(Protocol):
    """Says for each frame of a window which of its local speakers talk."""

    info: EngineInfo

    @property
    def window_samples(self) -> int: ...

    @property
    def frame_samples(self) -> int:
        """From one frame to the next."""
        ...

    def segment(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(windows, window_samples) to probabilities of speech, (windows, frames, local speakers)."""
        ...


class Diarizer(Protocol):
    """Says who spoke when in a whole recording."""

    info: EngineInfo

    def diarize(
        self, samples: Samples, *, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns in order of their start; turns of different speakers may overlap."""
        ...
