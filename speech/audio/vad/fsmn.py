"""Voice activity by FSMN-VAD (FunASR, github.com/modelscope/FunASR, MIT) in ONNX Runtime, streaming."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speech.audio.filterbank import BINS, WINDOW_SAMPLES, Features, options, read_cmvn
from speech.engines import SAMPLE_RATE, EngineUnavailable, Samples, VoiceDetector
from speech.models.onnx import open_session

FRAME = 160
CONTEXT_FRAMES = 2
"""Frames on both sides that the network sees with each frame."""
CACHE = (1, 128, 19, 1)
"""Shape of what each of its four memory layers keeps."""
SPEECH_MARGIN = 0.6
"""FunASR calls a frame speech when its probability exceeds that of silence by so much."""


class FsmnModel:
    """The loaded network; it keeps no state, so any number of streams share it."""

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
    """One recording's way through the network: filter banks, neighbours and memories go from block to block."""

    frame_samples = FRAME

    def __init__(
        self, session: onnxruntime.InferenceSession, shift: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> None:
        self._session, self._shift, self._scale = session, shift, scale
        self._fbank = knf.OnlineFbank(options("hamming"))
        self._read = 0
        self._held: Features = np.zeros((0, BINS), np.float32)
        """Frames that later ones still have as neighbours."""
        self._caches = [np.zeros(CACHE, np.float32) for _ in range(4)]

    def push(self, samples: Samples) -> NDArray[np.float32]:
        self._fbank.accept_waveform(SAMPLE_RATE, samples * np.float32(32768))
        return self._run(self._new_frames())

    def flush(self) -> NDArray[np.float32]:
        if self._read == 0:
            self._fbank.accept_waveform(SAMPLE_RATE, np.zeros(WINDOW_SAMPLES, np.float32))
        self._fbank.input_finished()
        frames = self._new_frames()
        last = frames[-1:] if len(frames) else self._held[-1:]
        # the last frame stands in for its missing neighbours
        return self._run(np.concatenate([frames, *[last] * CONTEXT_FRAMES]))

    def _new_frames(self) -> Features:
        ready = self._fbank.num_frames_ready
        # copied before they are popped: what get_frame gives is the library's own memory
        frames = np.array([self._fbank.get_frame(i) for i in range(self._read, ready)], np.float32)
        self._fbank.pop(ready - self._read)
        self._read = ready
        return frames.reshape(-1, BINS)

    def _run(self, frames: Features) -> NDArray[np.float32]:
        if len(frames) and not len(self._held):
            frames = np.concatenate([*[frames[:1]] * CONTEXT_FRAMES, frames])
        held = np.concatenate([self._held, frames])
        count = len(held) - 2 * CONTEXT_FRAMES
        if count <= 0:
            self._held = held
            return np.zeros(0, np.float32)
        self._held = held[count:]
        windows = np.lib.stride_tricks.sliding_window_view(held, (2 * CONTEXT_FRAMES + 1, BINS))[:, 0]
        rows = (windows.reshape(count, -1) + self._shift) * self._scale
        names = [f"in_cache{layer}" for layer in range(4)]
        classes, *self._caches = self._session.run(
            None, {"speech": rows[None].astype(np.float32), **dict(zip(names, self._caches, strict=True))}
        )
        silence = classes[0, :, 0]
        # moved so that 0.5 is where FunASR begins speech: one threshold serves every detector
        return np.asarray(np.clip(1 - 2 * silence - SPEECH_MARGIN + 0.5, 0, 1), np.float32)
