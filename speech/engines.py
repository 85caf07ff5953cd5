"""The Protocols of engines, and the types they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speech.text.words import Hypothesis, Turn

Samples = NDArray[np.float32]
"""Mono audio at SAMPLE_RATE, float32 in -1..1, shape (samples,)."""

SAMPLE_RATE = 16_000


class EngineUnavailable(Exception):
    """An engine cannot load. The message is one sentence: which engine, what is missing, what to do."""


def out_of_memory(error: Exception) -> bool:
    """Whether an engine ran out of memory, of the GPU or the machine, by the runtimes' messages."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in message for words in ("out of memory", "failed to allocate memory", "alloc_failed", "bad_alloc")
    )


def device_lost(error: Exception) -> bool:
    """Whether the GPU is unusable for the rest of this process."""
    message = str(error).lower()
    return not out_of_memory(error) and any(words in message for words in ("cuda", "cudnn", "cublas"))


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a job records about an engine that it used."""

    engine: str
    model: str
    device: str
    compute_type: str
    instead_of: str | None = None
    """The preferred engine or model that was unavailable, if this one replaces it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One chunk to transcribe, with its language where it is known."""

    samples: Samples
    language: str | None = None
    """ISO 639-1 code (also ``yue``), or None to detect it."""
    expected: str | None = None
    """The most probable language where none is given; another one is selected only on strong evidence."""
    hotwords: tuple[str, ...] = ()
    translate: bool = False
    """Write it in English; an engine that cannot is not given such utterances."""


class Transcriber(Protocol):
    """Turns chunks of at most 30 s into hypotheses; times count from each chunk's own start."""

    info: EngineInfo

    @property
    def languages(self) -> frozenset[str]:
        """ISO codes of the languages it can transcribe."""
        ...

    @property
    def translates(self) -> bool:
        """Whether it can write speech of other languages in English."""
        ...

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order."""
        ...


@runtime_checkable
class LanguageDetector(Protocol):
    """A transcriber that can detect the language of a recording before transcribing it."""

    def detect_language(self, utterance: Utterance) -> str:
        """The most probable language of the utterance."""
        ...


class VoiceModel(Protocol):
    """A loaded voice detector, shared by any number of streams."""

    def stream(self) -> VoiceDetector: ...


class VoiceDetector(Protocol):
    """The probability of speech for each frame of one recording's stream."""

    @property
    def frame_samples(self) -> int: ...

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Probabilities of the frames that these samples complete; the rest is kept for the next call."""
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
    """Detects for each frame of a window which of its local speakers talk."""

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
    """Diarizes a whole recording."""

    info: EngineInfo

    def diarize(
        self, samples: Samples, *, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns in order of their start; turns of different speakers may overlap."""
        ...
