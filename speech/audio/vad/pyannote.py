"""Voice activity by pyannote's segmentation: what it hears as anybody's speech. Finds quiet, far voices too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.audio.vad.segmentation import pad_with_noise
from speech.engines import Samples, Segmenter, VoiceDetector

STEP_FRAMES = 296
"""From one window to the next (5 s): every frame is judged twice."""

FULL_SPEECH_PROBABILITY = 0.6
"""Probabilities are divided by this: 0.5 is then where faint speech begins, as for every detector."""


class PyannoteVad:
    """The network as a voice detector; any number of streams share it."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def stream(self) -> VoiceDetector:
        return PyannoteStream(self._segmenter)


class PyannoteStream:
    """One recording's way through overlapping windows; probabilities come up to ten seconds late."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.frame_samples = segmenter.frame_samples
        self._held: Samples = np.zeros(0, np.float32)
        """Samples from the start of the next window on."""
        self._before: NDArray[np.float32] = np.zeros(0, np.float32)
        """What the window before said of the frames that the next one begins with."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._held = np.concatenate([self._held, samples])
        size, step = self._segmenter.window_samples, STEP_FRAMES * self.frame_samples
        parts = []
        while len(self._held) >= size:
            parts.append(self._speech_probability(self._held[:size])[:STEP_FRAMES])
            self._held = self._held[step:]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def flush(self) -> NDArray[np.float32]:
        frames = -(-len(self._held) // self.frame_samples)
        if frames == 0:
            return np.zeros(0, np.float32)
        heard = self._speech_probability(pad_with_noise(self._held, self._segmenter.window_samples))
        # the network's last frame ends a little before its window does
        return np.pad(heard, (0, max(0, frames - len(heard))))[:frames]

    def _speech_probability(self, window: Samples) -> NDArray[np.float32]:
        speech = np.clip(self._segmenter.segment(window[None])[0].max(axis=1) / FULL_SPEECH_PROBABILITY, 0, 1)
        twice = min(len(self._before), len(speech))
        speech[:twice] = (speech[:twice] + self._before[:twice]) / 2
        self._before = speech[STEP_FRAMES:].copy()
        return np.asarray(speech, np.float32)
