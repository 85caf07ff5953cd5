"""Noise suppression by GTCRN in ONNX Runtime, streaming.

("GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources", Rong et al. 2024;
github.com/Xiaobin-Rong/gtcrn, MIT.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from speech.engines import Samples
from speech.models.onnx import open_session

FRAME_SAMPLES = 512
HOP_SAMPLES = 256
_WINDOW = np.sqrt(np.hanning(FRAME_SAMPLES + 1)[:-1]).astype(np.float32)
"""Of analysis and synthesis: its squares, half a frame apart, add up to one."""


class GtcrnModel:
    """The loaded network. Stateless: any number of streams share it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises EngineUnavailable."""
        self._session = open_session(path, threads=threads)

    def stream(self) -> GtcrnStream:
        return GtcrnStream(self._session)


class GtcrnStream:
    """One recording's stream. Sample i of the output is sample i of the input, 16 to 32 ms later."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._state = {
            entry.name: np.zeros(entry.shape, np.float32) for entry in session.get_inputs() if entry.name != "mix"
        }
        self._input = np.zeros(HOP_SAMPLES, np.float32)
        """The second half of the last frame, and what follows it."""
        self._overlap = np.zeros(HOP_SAMPLES, np.float32)
        """What the last frame adds to the output of the next one."""
        self._lead = HOP_SAMPLES
        """Samples of output still to come that precede the recording."""
        self._due = 0
        """Samples that came in and have not come out."""

    def push(self, samples: Samples) -> Samples:
        """What these samples complete, shape (samples,)."""
        self._input = np.concatenate([self._input, samples])
        self._due += len(samples)
        return self._advance()

    def flush(self) -> Samples:
        """The rest. The stream is then over."""
        self._input = np.concatenate([self._input, np.zeros(2 * HOP_SAMPLES, np.float32)])
        return self._advance()

    def _advance(self) -> Samples:
        cleaned = [np.zeros(0, np.float32)]
        while len(self._input) >= FRAME_SAMPLES:
            frame = self._suppress(self._input[:FRAME_SAMPLES] * _WINDOW) * _WINDOW
            cleaned.append(self._overlap + frame[:HOP_SAMPLES])
            self._overlap = frame[HOP_SAMPLES:]
            self._input = self._input[HOP_SAMPLES:]
        output = np.concatenate(cleaned)
        lead = min(self._lead, len(output))
        self._lead -= lead
        output = output[lead : lead + self._due]
        self._due -= len(output)
        return output

    def _suppress(self, windowed: NDArray[np.float32]) -> NDArray[np.float32]:
        spectrum = np.fft.rfft(windowed).astype(np.complex64)
        mix = np.stack([spectrum.real, spectrum.imag], axis=-1)[None, :, None, :]
        enhanced, *states = self._session.run(None, {"mix": mix, **self._state})
        self._state = dict(zip(self._state, states, strict=True))
        return np.fft.irfft(enhanced[0, :, 0, 0] + 1j * enhanced[0, :, 0, 1]).astype(np.float32)
