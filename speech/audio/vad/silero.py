"""Voice activity by Silero (github.com/snakers4/silero-vad, MIT) in ONNX Runtime, streaming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speech.engines import Samples, VoiceDetector
from speech.models.onnx import open_session

FRAME = 512
CONTEXT = 64
"""Samples of the frame before that the model sees with each frame."""


class SileroModel:
    """The loaded network; it keeps no state, so any number of streams share it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        self._session = open_session(path, threads=threads)

    def stream(self) -> VoiceDetector:
        return SileroStream(self._session)


class SileroStream:
    """One recording's way through the network: recurrent state and context go from block to block."""

    frame_samples = FRAME

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> NDArray[np.float32]:
        audio = np.concatenate([self._rest, samples])
        count = len(audio) // FRAME
        self._rest = audio[count * FRAME :]
        if count == 0:
            return np.zeros(0, np.float32)
        frames = audio[: count * FRAME].reshape(count, FRAME)
        contexts = np.vstack([self._context, frames[:-1, -CONTEXT:]])
        self._context = frames[-1, -CONTEXT:].copy()
        output, self._h, self._c = self._session.run(
            None, {"input": np.hstack([contexts, frames]), "h": self._h, "c": self._c}
        )
        return np.asarray(output, np.float32).reshape(-1)

    def flush(self) -> NDArray[np.float32]:
        if len(self._rest) == 0:
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME - len(self._rest), np.float32))
