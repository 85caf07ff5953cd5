"""The Protocols of a live session's stages, and the types that they share.

Audio goes gateway → denoise → vad → language → asr. Each stage works on one flow at a time, in this process or in
another one; it is asked through these Protocols either way, and knows neither job, database nor client.

Times are float seconds and positions are samples, both from the beginning of the flow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speech.engines import SAMPLE_RATE, Samples
from speech.text.words import Word

FRAME_SAMPLES = 320
"""20 ms at SAMPLE_RATE, as packets of Opus have them. Frames between the stages have any length."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """A piece of one flow's audio: ``common.v1.AudioFrame``."""

    flow_id: str
    seq: int
    """Counts the frames of the flow from 0, without gaps, whatever way they went."""
    pcm: bytes
    """16-bit little-endian, interleaved; ``ns`` samples of each channel."""
    pts: int
    """Position of the first sample in the flow, in samples of ``sample_rate``."""
    sample_rate: int = SAMPLE_RATE
    channels: int = 1

    @property
    def ns(self) -> int:
        """Samples of each channel."""
        return len(self.pcm) // (2 * self.channels)

    @property
    def end(self) -> int:
        """Position behind the last sample."""
        return self.pts + self.ns

    @property
    def samples(self) -> Samples:
        """Of a frame with one channel: float32 in -1..1, shape (ns,)."""
        return np.frombuffer(self.pcm, "<i2").astype(np.float32) / np.float32(32768)


class StageError(Exception):
    """A stage cannot serve."""


class StageBusy(StageError):
    """It has as many sessions as it takes, or its circuit breaker is open. Asking again later may help."""


class StageDead(StageError):
    """It cannot be reached, or ended in the middle of a session, which is over."""


@dataclass(frozen=True, slots=True)
class AsrStart:
    """What a session of ASR is about: ``asr.v1.Start``."""

    flow_id: str
    language: str | None = None
    """ISO 639-1 code (also ``yue``), or None to detect it."""
    expected: str | None = None
    """The most probable language where none is given, as the language stage heard it."""
    domain: str | None = None
    """Chooses a pool, beside the language."""
    hotwords: tuple[str, ...] = ()
    partials: bool = True
    """Whether partials are wanted."""


@dataclass(frozen=True, slots=True)
class AsrPartial:
    """What an utterance sounds like so far. ``stable`` of a later partial, and the final one's beginning as far as
    it was stable, continue this ``stable``: it is never revised. ``unstable`` may be."""

    utterance: int
    """The number of the utterance within the session, from 0."""
    stable: tuple[Word, ...]
    unstable: tuple[Word, ...]
    end: float
    """Up to where audio was heard."""
    language: str | None = None


@dataclass(frozen=True, slots=True)
class AsrFinal:
    """All of one utterance, whose end the caller marked. Without words where it was no speech."""

    utterance: int
    start: float
    end: float
    words: tuple[Word, ...]
    language: str | None = None
    confidence: float = 0.0


AsrEvent = AsrPartial | AsrFinal


class AsrSession(Protocol):
    """The recognition of one flow. Utterances are those of the caller's voice detection.

    Audio is sent for utterances alone (from some padding before speech to its end), so ``pts`` jumps between them.
    Every ``end_utterance`` is answered by exactly one AsrFinal, in order; sending does not wait for answers, but
    may wait where the stage cannot keep up.
    """

    async def send(self, frame: AudioFrame) -> None:
        """Add a frame to the current utterance. Raises StageDead, StageBusy."""
        ...

    async def end_utterance(self) -> None:
        """The current utterance is over. The next frame begins another. Raises StageDead, StageBusy."""
        ...

    def events(self) -> AsyncIterator[AsrEvent]:
        """Events in order, until ``close`` and what was open then is answered. Iterated once. Raises StageDead."""
        ...

    async def close(self) -> None:
        """No more audio: an open utterance is ended, ``events`` ends behind its final. Never raises."""
        ...

    async def abort(self) -> None:
        """End at once, without what is open. Never raises; idempotent."""
        ...


class Recognizer(Protocol):
    """The ASR stage."""

    async def open(self, start: AsrStart) -> AsrSession:
        """A session for one flow. Raises StageBusy, StageDead."""
        ...

    async def close(self) -> None:
        """Release what the stage holds, once no session is open."""
        ...


class VadSession(Protocol):
    """Voice detection of one flow."""

    @property
    def frame_samples(self) -> int:
        """Samples that one probability is about."""
        ...

    async def push(self, samples: Samples) -> Sequence[float]:
        """Probabilities of speech for the frames that these samples complete. Raises StageDead."""
        ...

    async def close(self) -> None: ...


class VoiceDetection(Protocol):
    """The VAD stage."""

    async def open(self, flow_id: str) -> VadSession:
        """Raises StageBusy, StageDead."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Language:
    """``lid.v1``'s answer."""

    language: str
    """ISO 639-1 code (also ``yue``)."""
    probability: float | None = None
    """None where the engine gives none."""


class LanguageIdentification(Protocol):
    """The language stage."""

    async def identify(self, flow_id: str, samples: Samples) -> Language | None:
        """The language of a flow's first seconds of speech; None if this stage cannot tell. Raises StageError."""
        ...

    async def close(self) -> None: ...


class DenoiseSession(Protocol):
    """Noise suppression of one flow."""

    async def push(self, samples: Samples) -> Samples:
        """What these samples complete, without noise. As many samples come out in all as went in, with ``flush``;
        position i of the output is position i of the input, whatever the network's delay. Raises StageDead."""
        ...

    async def flush(self) -> Samples:
        """The rest. The session is then over."""
        ...

    async def close(self) -> None: ...


class Denoising(Protocol):
    """The noise suppression stage."""

    async def open(self, flow_id: str) -> DenoiseSession:
        """Raises StageBusy, StageDead."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stages:
    """What a gateway works with."""

    vad: VoiceDetection
    asr: Recognizer
    language: LanguageIdentification | None = None
    """None where the language is left to ASR."""
    denoise: Denoising | None = None
    """None where audio is heard as it came."""

    async def close(self) -> None:
        for stage in (self.asr, self.language, self.denoise, self.vad):
            if stage is not None:
                await stage.close()
