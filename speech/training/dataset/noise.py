"""Signal-to-noise ratio and clipping of a clip, estimated from its samples alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples

FRAME_SAMPLES = 480
"""30 ms: two periods of a low voice."""
PITCH_PERIOD_SAMPLES = slice(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
"""Periods of voices from 400 Hz to 70 Hz."""
NOISE_PERCENTILE, SPEECH_PERCENTILE = 10, 90
"""Percentiles of frame power that stand for the noise and for the speech."""
MIN_POWER = 1e-10
"""Mean square of 16-bit rounding noise: no recording is quieter."""
HIGH_PASS_HZ = 80.0
"""There is no voice below it."""
CLIPPING_LEVEL = 0.999


def snr(samples: Samples) -> float:
    """Speech over noise in dB, for mono audio at 16 kHz; 0 where there is no speech, or less than a frame.

    Noise is the aperiodic part of the quietest frames: the part that does not repeat at the pitch of a voice
    (the harmonics-to-noise ratio of Boersma, 1993). In pauses that is all of a frame. In a clip without pauses the
    quietest frames are voiced, and their voice does not count as noise.
    """
    count = len(samples) // FRAME_SAMPLES
    if count == 0:
        return 0.0
    frames = _high_passed(samples)[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
    power = np.mean(frames**2, axis=1)
    noise = max(float(np.percentile(power * (1 - _periodic_share(frames)), NOISE_PERCENTILE)), MIN_POWER)
    speech = max(float(np.percentile(power, SPEECH_PERCENTILE)) - noise, noise)
    return float(10 * np.log10(speech / noise))


def _high_passed(samples: Samples) -> NDArray[np.float64]:
    """A fourth-order Butterworth high-pass with zero phase."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(1 + (HIGH_PASS_HZ / hertz[1:]) ** 8)
    return np.fft.irfft(spectrum, len(samples))


def _periodic_share(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each frame's power, from 0 to 1, that repeats at some pitch; frames are (frames, samples)."""
    spectrum = np.abs(np.fft.rfft(frames, 2 * FRAME_SAMPLES)) ** 2
    products = np.fft.irfft(spectrum)[:, PITCH_PERIOD_SAMPLES]
    energy = np.cumsum(frames**2, axis=1)
    lags = np.arange(PITCH_PERIOD_SAMPLES.start, PITCH_PERIOD_SAMPLES.stop)
    heads = energy[:, FRAME_SAMPLES - lags - 1]
    tails = energy[:, -1:] - energy[:, lags - 1]
    correlation = products / np.sqrt(np.maximum(heads * tails, (FRAME_SAMPLES * MIN_POWER) ** 2))
    periodic: NDArray[np.float64] = np.clip(correlation.max(axis=1), 0.0, 1.0)
    return periodic


def clipped_share(samples: Samples) -> float:
    """Share of samples at full scale, from 0 to 1."""
    return float(np.mean(np.abs(samples) >= CLIPPING_LEVEL)) if len(samples) else 0.0
