"""Voiceprints: speaker embedding networks over Kaldi filter banks, in ONNX Runtime.

CAM++ (github.com/modelscope/3D-Speaker) gives 192 dimensions, WeSpeaker's ResNet34 256. Both take features from
which the mean of the utterance is subtracted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.audio.filterbank import Features, fbank
from speech.engines import EngineInfo, Samples
from speech.models.onnx import open_session, read_metadata
from speech.models.streams import Streams

MIN_SAMPLES = 8_000
"""Half a second; shorter speech is repeated to this length: the network pools statistics over its frames."""


def voice_features(samples: Samples, window: str) -> Features:
    """(frames, 80), the mean of each bin subtracted."""
    if 0 < len(samples) < MIN_SAMPLES:
        samples = np.resize(samples, MIN_SAMPLES)
    banks = fbank(samples, window=window)
    return np.asarray(banks - banks.mean(axis=0), np.float32)


def normalise_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


class VoiceprintModel(ABC):
    """What the ONNX and the PyTorch engine share: everything but the network itself."""

    info: EngineInfo
    dimensions: int

    def __init__(self, window: str, streams: Streams) -> None:
        """``window`` is the one the network was trained with (see :func:`speech.audio.filterbank.fbank`)."""
        self._window = window
        self._streams = streams

    @abstractmethod
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(windows, frames, 80) to the network's own vectors, not normalised."""

    def embed(self, windows: Sequence[Samples]) -> NDArray[np.float32]:
        """(windows, dimensions), each of length 1."""
        vectors = self._streams.map(lambda samples: self.run(voice_features(samples, self._window)[None]), windows)
        return normalise_rows(np.concatenate([np.zeros((0, self.dimensions), np.float32), *vectors]))


class VoiceprintEngine(VoiceprintModel):
    """A loaded ONNX export. Thread-safe."""

    def __init__(self, path: Path, *, engine: str, model: str, window: str, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        streams = Streams(threads)
        super().__init__(window, streams)
        self._session = open_session(path, threads=streams.threads)
        self._input = self._session.get_inputs()[0].name
        self.info = EngineInfo(engine, model, "cpu", "float32")
        # a published export may have an open shape; its metadata then gives the size
        declared = read_metadata(self._session).get("output_dim")
        self.dimensions = int(declared or self._session.get_outputs()[0].shape[-1])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (vectors,) = self._session.run(None, {self._input: batch})
        return np.asarray(vectors, np.float32)
