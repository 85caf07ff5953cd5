"""Two voice detectors as one: speech is what the first hears, and what the second is sure of.

Silero follows near voices closely and is deaf to quiet, far ones; pyannote's segmentation hears those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.engines.base import Samples, VoiceDetector, VoiceModel

MARGIN = 0.25
"""How much surer the second must be. Measured: below it, noise of a meeting room passes for speech."""


class EitherVad:
    """Any number of streams share the two models."""

    def __init__(self, first: VoiceModel, second: VoiceModel) -> None:
        self._first, self._second = first, second

    def stream(self) -> VoiceDetector:
        return EitherStream(self._first.stream(), self._second.stream())


class EitherStream:
    """Frames are those of the first detector; they come when the slower of the two has judged them."""

    def __init__(self, first: VoiceDetector, second: VoiceDetector) -> None:
        self._detectors = (first, second)
        self.frame_samples = first.frame_samples
        self._heard: list[NDArray[np.float32]] = [np.zeros(0, np.float32), np.zeros(0, np.float32)]
        """Of either detector, from the frames on that are still to be given out."""
        self._given = 0
        self._dropped = 0
        """Frames of the first that were given out, and of the second that were dropped."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        return self._take(*(detector.push(samples) for detector in self._detectors))

    def flush(self) -> NDArray[np.float32]:
        given = self._take(*(detector.flush() for detector in self._detectors))
        rest, self._heard[0] = self._heard[0], np.zeros(0, np.float32)
        return np.concatenate([given, rest])

    def _take(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        self._heard = [np.concatenate(pair) for pair in zip(self._heard, (first, second), strict=True)]
        mine, other = self._heard
        # the second's frame at the middle of each of ours
        middles = (self._given + np.arange(len(mine)) + 0.5) * self.frame_samples
        places = (middles / self._detectors[1].frame_samples).astype(np.int64) - self._dropped
        ready = int(np.searchsorted(places, len(other)))
        judged = np.maximum(mine[:ready], other[places[:ready]] - MARGIN)
        self._given += ready
        drop = int(places[ready - 1]) if ready else 0
        self._dropped += drop
        self._heard = [mine[ready:], other[drop:]]
        return np.asarray(judged, np.float32)
