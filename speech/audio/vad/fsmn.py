"""Voice activity by FSMN-VAD (FunASR, github.com/modelscope/FunASR, MIT) in ONNX Runtime, streaming."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speech.audio.filterbank import MEL_BINS, WINDOW_SAMPLES, Features, fbank_options, read_cmvn
from speech.engines import SAMPLE_RATE, EngineUnavailable, Samples, VoiceDetector
from speech.models.onnx import open_session

FRAME_SAMPLES = 160
CONTEXT_FRAMES = 2
"""Frames on both sides that the network takes with each frame."""
CACHE_SHAPE = (1, 128, 19, 1)
"""Of the state of each memory layer."""
CACHE_COUNT = 4
MIN_SPEECH_MARGIN = 0.6
"""For FunASR a frame is speech when its probability exceeds that of silence by this much."""


class FsmnModel:
    """The loaded network. Stateless: any number of streams share it."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """``folder`` holds model.onnx and am.mvn. Raises EngineUnavailable."""
        self._session = open_session(folder / "model.onnx", threads=threads)
        try:
            self._cmvn = read_cmvn(folder / "am.mvn")
        except (OSError, ValueError) as error:
            raise EngineUnavailable(f"FSMN-VAD cannot load from {folder}: {error}.") from error

    def stream(self) -> VoiceDetector:
        return FsmnStream(self._session, *self._cmvn)


class FsmnStream:
    """The state of one recording between blocks: filter banks, context frames and the network's caches."""

    frame_samples = FRAME_SAMPLES

    def __init__(
        self, session: onnxruntime.InferenceSession, shift: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> None:
        self._session, self._shift, self._scale = session, shift, scale
        self._fbank = knf.OnlineFbank(fbank_options("hamming"))
        self._frames_read = 0
        self._buffer: Features = np.zeros((0, MEL_BINS), np.float32)
        """Frames that are still context of later ones."""
        self._caches = [np.zeros(CACHE_SHAPE, np.float32) for _ in range(CACHE_COUNT)]

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._fbank.accept_waveform(SAMPLE_RATE, samples * np.float32(32768))
        return self._speech_probabilities(self._new_frames())

    def flush(self) -> NDArray[np.float32]:
        if self._frames_read == 0:
            self._fbank.accept_waveform(SAMPLE_RATE, np.zeros(WINDOW_SAMPLES, np.float32))
        self._fbank.input_finished()
        frames = self._new_frames()
        last = frames[-1:] if len(frames) else self._buffer[-1:]
        # the last frame stands in for its missing context
        return self._speech_probabilities(np.concatenate([frames, *[last] * CONTEXT_FRAMES]))

    def _new_frames(self) -> Features:
        ready = self._fbank.num_frames_ready
        # copied before they are popped: get_frame returns the library's own memory
        frames = np.array([self._fbank.get_frame(i) for i in range(self._frames_read, ready)], np.float32)
        self._fbank.pop(ready - self._frames_read)
        self._frames_read = ready
        return frames.reshape(-1, MEL_BINS)

    def _speech_probabilities(self, frames: Features) -> NDArray[np.float32]:
        if len(frames) and not len(self._buffer):
            frames = np.concatenate([*[frames[:1]] * CONTEXT_FRAMES, frames])
        buffer = np.concatenate([self._buffer, frames])
        count = len(buffer) - 2 * CONTEXT_FRAMES
        if count <= 0:
            self._buffer = buffer
            return np.zeros(0, np.float32)
        self._buffer = buffer[count:]
        windows = np.lib.stride_tricks.sliding_window_view(buffer, (2 * CONTEXT_FRAMES + 1, MEL_BINS))[:, 0]
        rows = (windows.reshape(count, -1) + self._shift) * self._scale
        names = [f"in_cache{layer}" for layer in range(CACHE_COUNT)]
        classes, *self._caches = self._session.run(
            None, {"speech": rows[None].astype(np.float32), **dict(zip(names, self._caches, strict=True))}
        )
        silence = classes[0, :, 0]
        # shifted so that speech begins at 0.5, as for every detector
        return np.asarray(np.clip(1 - 2 * silence - MIN_SPEECH_MARGIN + 0.5, 0, 1), np.float32)
