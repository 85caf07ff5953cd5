"""pyannote's segmentation-3.0 (huggingface.co/pyannote/segmentation-3.0, MIT) in ONNX Runtime.

The network takes 10 s and gives, for each of 589 frames, one of seven classes: nobody, one of three local
speakers, or two of them at once (its "powerset").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.engines import EngineInfo, Samples
from speech.models.onnx import open_session
from speech.models.streams import Streams

WINDOW_SAMPLES = 160_000
FRAME_SAMPLES = 270
"""From one frame to the next (16.9 ms)."""
RECEPTIVE_FIELD_SAMPLES = 991
"""Of one frame; that of the first frame begins with the window."""
FRAMES = 589

NOISE_FRAME_SAMPLES = 320
"""20 ms: the loudness of the quietest tenth of such frames is the noise floor."""

POWERSET = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)], np.float32)
"""The speakers in each class, shape (7, 3)."""


class PyannoteSegmentation:
    """The loaded network. Thread-safe."""

    window_samples = WINDOW_SAMPLES
    frame_samples = FRAME_SAMPLES

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        self._streams = Streams(threads)
        self._session = open_session(path, threads=self._streams.threads)
        self._input = self._session.get_inputs()[0].name
        self.info = EngineInfo("pyannote-onnx", path.parent.name, "cpu", "float32")

    def class_log_probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(windows, 160000) to log-probabilities of the seven classes, (windows, 589, 7)."""
        outputs = self._streams.map(
            lambda row: self._session.run(None, {self._input: row[None, None]})[0], windows
        )
        return np.asarray(np.concatenate(outputs), np.float32)

    def segment(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(windows, 160000) to each local speaker's probability of talking, (windows, 589, 3)."""
        return np.asarray(np.exp(self.class_log_probabilities(windows)) @ POWERSET, np.float32)


def pad_with_noise(samples: Samples, size: int) -> Samples:
    """A window of ``size`` samples, padded with noise like its own: next to digital silence, room noise passes for
    speech."""
    if len(samples) >= size:
        return samples
    frames = samples[: len(samples) // NOISE_FRAME_SAMPLES * NOISE_FRAME_SAMPLES].reshape(-1, NOISE_FRAME_SAMPLES)
    floor = np.sqrt(np.percentile(np.mean(frames**2, axis=1), 10)) if len(frames) else 0.0
    noise = np.random.default_rng(0).normal(0, floor, size - len(samples))
    return np.concatenate([samples, noise.astype(np.float32)])
