"""Kaldi's filter banks in float64, written from their definition, to check the library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE, FRAME_SAMPLES, SHIFT_SAMPLES, FFT_SIZE, MEL_BINS = 16_000, 400, 160, 512, 80
PREEMPHASIS = 0.97
MIN_ENERGY = float(np.finfo(np.float32).eps)

Array = NDArray[np.float64]


def fbank(samples: NDArray[np.float32], *, window: str, scale: float = 1.0) -> Array:
    """(frames, 80): frames cut inside the signal, mean removed, pre-emphasis, window, power, mel, logarithm."""
    signal = samples.astype(np.float64) * scale
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME_SAMPLES)[::SHIFT_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - PREEMPHASIS * previous) * _window(window)
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2
    return np.asarray(np.log(np.maximum(power[:, : FFT_SIZE // 2] @ _mel().T, MIN_ENERGY)))


def _window(name: str) -> Array:
    angle = 2 * np.pi * np.arange(FRAME_SAMPLES) / (FRAME_SAMPLES - 1)
    match name:
        case "hamming":
            return np.asarray(0.54 - 0.46 * np.cos(angle))
        case "povey":
            return np.asarray((0.5 - 0.5 * np.cos(angle)) ** 0.85)
    raise ValueError(f"no window {name!r}")


def _mel() -> Array:
    """(80, 256): triangles equally wide in mel from 20 Hz to half the rate."""

    def mel(hertz: Array | float) -> Array:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    edges = np.linspace(mel(20.0), mel(SAMPLE_RATE / 2), MEL_BINS + 2)
    bins = mel(np.arange(FFT_SIZE // 2) * SAMPLE_RATE / FFT_SIZE)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)), 0, None)
