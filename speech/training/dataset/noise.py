"""How clean a stretch of speech is, from its samples alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples

FRAME = 480
"""Samples, 30 ms: two periods of a low voice."""
PITCH = slice(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
"""Periods of voices, in samples: 400 Hz to 70 Hz."""
QUIET, LOUD = 10, 90
"""Percentiles of the frames that stand for what lies under the voice, and for the voice."""
FLOOR = 1e-10
"""Mean square of the rounding of 16 bits: nothing recorded is quieter."""
RUMBLE = 80.0
"""Hz; below is no voice."""
FULL_SCALE = 0.999


def snr(samples: Samples) -> float:
    """Speech over noise in dB, for mono audio at 16 kHz; 0 where there is no speech, or less than a frame.

    Noise is what the quietest frames hold, and only that part of them that does not repeat itself at the pitch of
    a voice (the harmonics-to-noise ratio of Boersma, 1993). In pauses that is everything; a clip without any pause
    has voiced frames for its quietest, and the voice in them is not held against it.
    """
    count = len(samples) // FRAME
    if count == 0:
        return 0.0
    frames = _above_rumble(samples)[: count * FRAME].reshape(count, FRAME)
    power = np.mean(frames**2, axis=1)
    noise = max(float(np.percentile(power * (1 - _voiced(frames)), QUIET)), FLOOR)
    speech = max(float(np.percentile(power, LOUD)) - noise, noise)
    return float(10 * np.log10(speech / noise))


def _above_rumble(samples: Samples) -> NDArray[np.float64]:
    """Without what is below the voice: a Butterworth high-pass of the fourth order, without its phase."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(1 + (RUMBLE / hertz[1:]) ** 8)
    return np.fft.irfft(spectrum, len(samples))


def _voiced(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each frame (frames, samples) the share of its power, from 0 to 1, that repeats itself at some pitch."""
    spectrum = np.abs(np.fft.rfft(frames, 2 * FRAME)) ** 2
    products = np.fft.irfft(spectrum)[:, PITCH]
    running = np.cumsum(frames**2, axis=1)
    lags = np.arange(PITCH.start, PITCH.stop)
    heads = running[:, FRAME - lags - 1]
    tails = running[:, -1:] - running[:, lags - 1]
    likeness = products / np.sqrt(np.maximum(heads * tails, (FRAME * FLOOR) ** 2))
    voiced: NDArray[np.float64] = np.clip(likeness.max(axis=1), 0.0, 1.0)
    return voiced


def clipped(samples: Samples) -> float:
    """Share of samples at full scale, from 0 to 1."""
    return float(np.mean(np.abs(samples) >= FULL_SCALE)) if len(samples) else 0.0
