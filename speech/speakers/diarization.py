"""Diarization of one chunk: segmentation of sliding windows, and a voiceprint for each local speaker.

Speakers are local to their window here; :mod:`speech.speakers.reconstruction` finds which of them are the same
person.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech.audio.vad.segmentation import pad_with_noise
from speech.engines import SAMPLE_RATE, Embedder, EngineInfo, Samples, Segmenter
from speech.text.timeline import Timeline

STEP_SECONDS = 5.0
"""From one window to the next: two windows overlap on every frame. Four took twice as long for no better turns."""

TARGET_RMS = 0.05
"""Root mean square that a window is scaled to: the network ignores speech that is far too quiet."""
MAX_GAIN = 100.0

MIN_ACTIVE_PROBABILITY = 0.5
"""From this on a local speaker counts as talking."""

MIN_VOICEPRINT_SECONDS = 0.4
"""A local speaker with less speech gets no voiceprint."""


@dataclass(frozen=True, slots=True)
class LocalSpeakers:
    """The local speakers of one chunk; times count from the start of the recording.

    Attributes:
        starts: (windows,) seconds.
        activity: (windows, frames, local speakers), probability of talking, as uint8 of 255.
        window, speaker: (voices,) which window and local speaker each voiceprint belongs to.
        seconds: (voices,) of speech in each voiceprint, without overlapped speech where there is enough other.
        vectors: (voices, dimensions), length 1.
        frame: seconds from one frame to the next.
    """

    starts: NDArray[np.float64]
    activity: NDArray[np.uint8]
    window: NDArray[np.int32]
    speaker: NDArray[np.int32]
    seconds: NDArray[np.float32]
    vectors: NDArray[np.float32]
    frame: float

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            starts=self.starts,
            activity=self.activity,
            window=self.window,
            speaker=self.speaker,
            seconds=self.seconds,
            vectors=self.vectors.astype(np.float16),
            frame=np.float64(self.frame),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> LocalSpeakers:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        frame = float(arrays.pop("frame"))
        vectors = arrays.pop("vectors").astype(np.float32)
        return cls(**arrays, vectors=vectors, frame=frame)


class ChunkDiarizer:
    """Segmentation and embedding network together. Thread-safe if they are."""

    def __init__(self, segmenter: Segmenter, embedder: Embedder) -> None:
        self._segmenter, self.embedder = segmenter, embedder
        self.info: EngineInfo = segmenter.info

    def diarize_chunk(self, samples: Samples, timeline: Timeline) -> LocalSpeakers:
        """The local speakers of a chunk. The pauses that it leaves out are put back: without them the segmentation
        takes two people for one."""
        samples = restore_pauses(samples, timeline)
        offsets = self._window_offsets(samples, timeline)
        size = self._segmenter.window_samples
        pieces = [samples[offset : offset + size] for offset in offsets]
        windows = np.stack([pad_with_noise(piece, size) * np.float32(_gain(piece)) for piece in pieces])
        probability = self._segmenter.segment(windows)
        frame = self._segmenter.frame_samples
        for row, offset in zip(probability, offsets, strict=True):
            row[-(-(len(samples) - offset) // frame) :] = 0  # nobody talks in the padding
        window, speaker, seconds, voices = self._voice_samples(samples, offsets, probability)
        return LocalSpeakers(
            starts=timeline.start + np.array(offsets, np.float64) / SAMPLE_RATE,
            activity=np.round(probability * 255).clip(0, 255).astype(np.uint8),
            window=np.array(window, np.int32),
            speaker=np.array(speaker, np.int32),
            seconds=np.array(seconds, np.float32),
            vectors=self.embedder.embed(voices),
            frame=frame / SAMPLE_RATE,
        )

    def _window_offsets(self, samples: Samples, timeline: Timeline) -> list[int]:
        """Where windows begin: every step, and so that the last one ends with the chunk; none in silence."""
        size, step = self._segmenter.window_samples, int(STEP_SECONDS * SAMPLE_RATE)
        last = max(0, len(samples) - size)
        return [
            offset
            for offset in (*range(0, last, step), last)
            if timeline.in_chunk(
                timeline.start + offset / SAMPLE_RATE, timeline.start + (offset + size) / SAMPLE_RATE
            )
        ]

    def _voice_samples(
        self, samples: Samples, offsets: list[int], probability: NDArray[np.float32]
    ) -> tuple[list[int], list[int], list[float], list[Samples]]:
        """For each local speaker with enough speech: its window, its number, seconds of speech, and the speech."""
        frame = self._segmenter.frame_samples
        min_samples = int(MIN_VOICEPRINT_SECONDS * SAMPLE_RATE)
        window, speaker, seconds, voices = [], [], [], []
        for position, (offset, rows) in enumerate(zip(offsets, probability, strict=True)):
            active = rows > MIN_ACTIVE_PROBABILITY
            alone = active & (active.sum(axis=1, keepdims=True) == 1)
            for local in range(active.shape[1]):
                # speech without overlap, unless there is too little of it
                frames_used = alone[:, local] if alone[:, local].sum() * frame >= min_samples else active[:, local]
                speech = samples[offset:][np.repeat(frames_used, frame)[: len(samples) - offset].nonzero()[0]]
                if len(speech) >= min_samples:
                    window.append(position)
                    speaker.append(local)
                    seconds.append(len(speech) / SAMPLE_RATE)
                    voices.append(speech)
        return window, speaker, seconds, voices


def restore_pauses(samples: Samples, timeline: Timeline) -> Samples:
    """The chunk's span of the recording, with noise like its own for what the chunk leaves out."""
    size = round((timeline.end - timeline.start) * SAMPLE_RATE)
    restored = pad_with_noise(samples, len(samples) + size)[len(samples) :]
    at = 0
    for start, end in timeline.stretches:
        first, length = round((start - timeline.start) * SAMPLE_RATE), round((end - start) * SAMPLE_RATE)
        piece = samples[at : at + length][: len(restored) - first]
        restored[first : first + len(piece)] = piece
        at += length
    return restored


def _gain(window: Samples) -> float:
    rms = float(np.sqrt(np.mean(window**2))) if len(window) else 0.0
    return min(TARGET_RMS / rms, MAX_GAIN) if rms > 0 else 1.0
