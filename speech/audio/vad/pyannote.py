"""Voice activity by pyannote's segmentation: speech of any local speaker. Detects quiet, distant voices too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.audio.vad.segmentation import pad_with_noise
from speech.engines import Samples, Segmenter, VoiceDetector

STEP_FRAMES = 296
"""From one window to the next (5 s): two windows overlap on every frame."""

PROBABILITY_SCALE = 0.6
"""Probabilities are divided by this, so that faint speech begins at 0.5, as for every detector."""


class SegmentationVad:
    """The network as a voice detector; any number of streams share it."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def stream(self) -> VoiceDetector:
        return SegmentationStream(self._segmenter)


class SegmentationStream:
    """The state of one recording between blocks; probabilities are delayed by up to ten seconds."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.frame_samples = segmenter.frame_samples
        self._buffer: Samples = np.zeros(0, np.float32)
        """Samples from the start of the next window."""
        self._previous: NDArray[np.float32] = np.zeros(0, np.float32)
        """Probabilities from the previous window for the frames that the next one begins with."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._buffer = np.concatenate([self._buffer, samples])
        size, step = self._segmenter.window_samples, STEP_FRAMES * self.frame_samples
        parts = []
        while len(self._buffer) >= size:
            parts.append(self._speech_probabilities(self._buffer[:size])[:STEP_FRAMES])
            self._buffer = self._buffer[step:]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def flush(self) -> NDArray[np.float32]:
        frames = -(-len(self._buffer) // self.frame_samples)
        if frames == 0:
            return np.zeros(0, np.float32)
        probabilities = self._speech_probabilities(pad_with_noise(self._buffer, self._segmenter.window_samples))
        # the network's last frame ends a little before its window does
        return np.pad(probabilities, (0, max(0, frames - len(probabilities))))[:frames]

    def _speech_probabilities(self, window: Samples) -> NDArray[np.float32]:
        speech = np.clip(self._segmenter.segment(window[None])[0].max(axis=1) / PROBABILITY_SCALE, 0, 1)
        overlap = min(len(self._previous), len(speech))
        speech[:overlap] = (speech[:overlap] + self._previous[:overlap]) / 2
        self._previous = speech[STEP_FRAMES:].copy()
        return np.asarray(speech, np.float32)
