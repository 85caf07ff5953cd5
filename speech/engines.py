"""The Protocols of engines, and the types they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speech.text.words import Hypothesis, Turn, Word

Samples = NDArray[np.float32]
"""Mono audio at SAMPLE_RATE, float32 in -1..1, shape (samples,)."""

SAMPLE_RATE = 16_000


class EngineUnavailable(Exception):
    """An engine cannot load. The message is one sentence: which engine, what is missing, what to do."""


class EngineAway(Exception):
    """Nobody answers for an engine that is a server of its own. Another engine may, or the same one later.

    ``for_good``: it has been so for longer than its operators would have anybody wait.
    """

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


class SomeFailed(Exception):
    """Utterances of a batch failed, each by itself: asking again for the others would repeat what is done."""

    def __init__(self, outputs: Sequence[Hypothesis | Exception]) -> None:
        """One output for each utterance, in order."""
        super().__init__(f"{sum(isinstance(output, Exception) for output in outputs)} of {len(outputs)} failed")
        self.outputs = outputs


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
    word_times: str | None = None
    """What timed the words of a model that has no times for them."""
    price_per_minute: float | None = None
    """What a minute of audio costs, where the operators say so, in a currency of theirs."""


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of speech, and the words that were heard in it."""

    samples: Samples
    words: tuple[Word, ...]
    """Their times count from the first sample."""
    language: str | None


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
    preceding: str = ""
    """The text right before it, for engines that take a context."""
    before: tuple[Said, ...] = ()
    """Speech right before it, for engines that hear better with it; at most 30 s with the utterance."""
    draft: tuple[Word, ...] = ()
    """The words of an earlier hypothesis, whose times stand in where an engine has none."""
    url: str | None = None
    """Where the audio can be had as FLAC, for some minutes."""
    late_at: float | None = None
    """When nobody waits for it any more, in monotonic seconds."""


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

    @property
    def takes_hotwords(self) -> bool:
        """Whether it looks at the hotwords of an utterance."""
        ...

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order. Raises SomeFailed, or EngineAway, if it is a server."""
        ...


@runtime_checkable
class ManyAtOnce(Protocol):
    """A transcriber that works on many utterances at once, as a server does."""

    @property
    def capacity(self) -> int:
        """How many."""
        ...


class Aligner(Protocol):
    """Finds when the words of a given text are spoken."""

    @property
    def name(self) -> str:
        """What a job records of it."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO codes of the languages it can align."""
        ...

    def align(self, samples: Samples, text: str, language: str) -> list[Word]:
        """Timed words that make up most of the text, in order; their division may be the aligner's own.

        Any error means that it has no times.
        """
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
