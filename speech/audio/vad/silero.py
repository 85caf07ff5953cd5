"""Voice activity by Silero (github.com/snakers4/silero-vad, MIT) in ONNX Runtime, streaming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speech.engines import Samples, VoiceDetector
from speech.models.onnx import open_session

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""The end of the previous frame, which the model takes with each frame."""


class SileroModel:
    """The loaded network. Stateless: any number of streams share it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        self._session = open_session(path, threads=threads)

    def stream(self) -> VoiceDetector:
        return SileroStream(self._session)


class SileroStream:
    """The state of one recording between blocks: the network's recurrent state, and context samples."""

    frame_samples = FRAME_SAMPLES

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._buffer = np.zeros(CONTEXT_SAMPLES, np.float32)
        """The context of the next frame, and what there is of it."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        audio = np.concatenate([self._buffer, samples])
        count = (len(audio) - CONTEXT_SAMPLES) // FRAME_SAMPLES
        self._buffer = audio[count * FRAME_SAMPLES :]
        if count == 0:
            return np.zeros(0, np.float32)
        # a loop costs less than any call that makes overlapping frames
        frames = np.empty((count, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        for place, frame in enumerate(frames):
            frame[:] = audio[place * FRAME_SAMPLES : (place + 1) * FRAME_SAMPLES + CONTEXT_SAMPLES]
        output, self._h, self._c = self._session.run(None, {"input": frames, "h": self._h, "c": self._c})
        return np.asarray(output, np.float32).reshape(-1)

    def flush(self) -> NDArray[np.float32]:
        begun = len(self._buffer) - CONTEXT_SAMPLES
        if begun == 0:
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - begun, np.float32))
