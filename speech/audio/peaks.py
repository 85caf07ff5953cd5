"""The waveform of a recording as it is drawn: its loudest sample in each short span."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE

PEAKS_PER_SECOND = 25
SAMPLES_PER_PEAK = SAMPLE_RATE // PEAKS_PER_SECOND


class PeakMeter:
    """Takes audio block by block. Ten hours are 900 kB."""

    def __init__(self) -> None:
        self._peaks = bytearray()
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)

    def push(self, block: NDArray[np.float32]) -> None:
        """Samples in -1..1, shape (samples,) or (channels, samples)."""
        loudest = np.abs(block).max(axis=0) if block.ndim > 1 else np.abs(block)
        samples = np.concatenate([self._rest, loudest])
        whole = len(samples) - len(samples) % SAMPLES_PER_PEAK
        self._add(samples[:whole].reshape(-1, SAMPLES_PER_PEAK))
        self._rest = samples[whole:]

    def finish(self) -> bytes:
        """One byte for each peak, from 0 to 255 at full scale."""
        if len(self._rest):
            self._add(self._rest[None])
        return bytes(self._peaks)

    def _add(self, spans: NDArray[np.float32]) -> None:
        scaled = np.rint(spans.max(axis=1, initial=0.0) * 255)
        self._peaks += np.minimum(scaled, 255).astype(np.uint8).tobytes()
