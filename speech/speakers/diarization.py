"""Who speaks within one chunk: segmentation over sliding windows, and a voiceprint for each local speaker.

Speakers are local to their window here; :mod:`speech.speakers.clustering` finds out which of them are the same
person.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech.audio.vad.segmentation import pad_with_noise
from speech.engines import SAMPLE_RATE, Embedder, EngineInfo, Samples, Segmenter

WINDOW_STEP_SECONDS = 2.5
"""From one window to the next; every frame is so judged four times."""

TARGET_RMS = 0.05
"""Root mean square to which a window is brought: the network ignores what is far quieter than speech."""
MAX_GAIN = 100.0

ACTIVITY_THRESHOLD = 0.5
"""Probability from which a local speaker counts as talking."""

MIN_VOICEPRINT_SECONDS = 0.4
"""Speech of one local speaker that is worth a voiceprint."""


@dataclass(frozen=True, slots=True)
class LocalSpeakers:
    """What was heard in one chunk; times count from the start of the recording.

    Attributes:
        starts: (windows,) seconds.
        activity: (windows, frames, local speakers), probability of talking, as uint8 of 255.
        window, speaker: (voices,) which window and local speaker each voiceprint belongs to.
        seconds: (voices,) of speech behind each voiceprint, of nobody else's where there was enough.
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
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        frame = float(arrays.pop("frame"))
        vectors = arrays.pop("vectors").astype(np.float32)
        return cls(**arrays, vectors=vectors, frame=frame)


class ChunkDiarizer:
    """The segmentation and the embedding network together. Thread-safe as they are."""

    def __init__(self, segmenter: Segmenter, embedder: Embedder) -> None:
        self._segmenter, self.embedder = segmenter, embedder
        self.info: EngineInfo = segmenter.info

    def diarize_chunk(self, samples: Samples, start: float) -> LocalSpeakers:
        """The local speakers of a chunk that begins at ``start`` seconds."""
        offsets = self._offsets(len(samples))
        size = self._segmenter.window_samples
        heard = [samples[offset : offset + size] for offset in offsets]
        windows = np.stack([pad_with_noise(piece, size) * np.float32(_gain(piece)) for piece in heard])
        probability = self._segmenter.segment(windows)
        frame = self._segmenter.frame_samples
        for row, offset in zip(probability, offsets, strict=True):
            row[-(-(len(samples) - offset) // frame) :] = 0  # padding is nobody
        window, speaker, seconds, pieces = self._voiceprint_audio(samples, offsets, probability)
        return LocalSpeakers(
            starts=start + np.array(offsets, np.float64) / SAMPLE_RATE,
            activity=np.round(probability * 255).clip(0, 255).astype(np.uint8),
            window=np.array(window, np.int32),
            speaker=np.array(speaker, np.int32),
            seconds=np.array(seconds, np.float32),
            vectors=self.embedder.embed(pieces),
            frame=frame / SAMPLE_RATE,
        )

    def _offsets(self, count: int) -> list[int]:
        """Where windows begin: every step, the last one flush with the end."""
        last = max(0, count - self._segmenter.window_samples)
        step = int(WINDOW_STEP_SECONDS * SAMPLE_RATE)
        return [*range(0, last, step), last]

    def _voiceprint_audio(
        self, samples: Samples, offsets: list[int], probability: NDArray[np.float32]
    ) -> tuple[list[int], list[int], list[float], list[Samples]]:
        """For each local speaker with enough speech: where, how much of it, and the speech itself."""
        frame = self._segmenter.frame_samples
        shortest = int(MIN_VOICEPRINT_SECONDS * SAMPLE_RATE)
        window, speaker, seconds, pieces = [], [], [], []
        for place, (offset, rows) in enumerate(zip(offsets, probability, strict=True)):
            active = rows > ACTIVITY_THRESHOLD
            alone = active & (active.sum(axis=1, keepdims=True) == 1)
            for local in range(active.shape[1]):
                # speech that nobody else talks over, unless there is next to none
                chosen = alone[:, local] if alone[:, local].sum() * frame >= shortest else active[:, local]
                spoken = samples[offset:][np.repeat(chosen, frame)[: len(samples) - offset].nonzero()[0]]
                if len(spoken) >= shortest:
                    window.append(place)
                    speaker.append(local)
                    seconds.append(len(spoken) / SAMPLE_RATE)
                    pieces.append(spoken)
        return window, speaker, seconds, pieces


def _gain(piece: Samples) -> float:
    loudness = float(np.sqrt(np.mean(piece**2))) if len(piece) else 0.0
    return min(TARGET_RMS / loudness, MAX_GAIN) if loudness > 0 else 1.0
