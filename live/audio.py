"""From what clients send to what the stages hear: 16 kHz, one channel, 16 bits, frames of any length."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples

Pcm = NDArray[np.int16]
"""One channel at SAMPLE_RATE, shape (samples,)."""

MIN_RATE, MAX_RATE = 8_000, 48_000
MAX_CHANNELS = 2


class PcmReader:
    """16-bit little-endian PCM in messages that may end anywhere, also within a sample."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        """``sample_rate`` from MIN_RATE to MAX_RATE; channels are mixed."""
        self._rate, self._channels = sample_rate, channels
        self._rest = b""
        self._resampler: Any = self._make_resampler()

    def _make_resampler(self) -> Any:
        return None if self._rate == SAMPLE_RATE else av.AudioResampler("s16", "mono", SAMPLE_RATE)

    def push(self, data: bytes) -> Pcm:
        """The samples that this message completes."""
        data = self._rest + data
        whole = len(data) - len(data) % (2 * self._channels)
        self._rest = data[whole:]
        pcm = np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels)
        # the mean of 16-bit samples has 16 bits
        mono = pcm[:, 0] if self._channels == 1 else pcm.mean(axis=1, dtype=np.float32).astype(np.int16)
        return self._resampled(mono)

    def flush(self) -> Pcm:
        """What the resampler still holds. More may come."""
        if self._resampler is None:
            return np.zeros(0, np.int16)
        held = _joined(self._resampler.resample(None))
        self._resampler = self._make_resampler()  # that one takes nothing any more
        return held

    def _resampled(self, mono: Pcm) -> Pcm:
        if self._resampler is None or not len(mono):
            return mono
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = self._rate
        return _joined(self._resampler.resample(frame))


def to_samples(pcm: Pcm) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)


def to_pcm(samples: Samples) -> Pcm:
    """Exact for what came from PCM."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


class RecentAudio:
    """The last part of a stream, by position."""

    def __init__(self, begin: int) -> None:
        """``begin``: the position of the first sample to come."""
        self._pcm: Pcm = np.zeros(0, np.int16)
        self._begin = begin

    @property
    def end(self) -> int:
        return self._begin + len(self._pcm)

    def push(self, pcm: Pcm) -> None:
        self._pcm = np.concatenate([self._pcm, pcm])

    def take(self, start: int, end: int) -> Pcm:
        """Samples ``start`` to ``end``, as far as they are there."""
        return self._pcm[max(0, start - self._begin) : max(0, end - self._begin)]

    def forget(self, before: int) -> None:
        """Keep what comes from this position on."""
        drop = min(max(0, before - self._begin), len(self._pcm))
        self._pcm, self._begin = self._pcm[drop:], self._begin + drop


def _joined(frames: list[Any]) -> Pcm:
    parts = [frame.to_ndarray().reshape(-1) for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
