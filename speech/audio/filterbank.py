"""Kaldi's log-mel filter banks, and how FunASR's models stack (LFR) and normalise (CMVN) them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples

Features = NDArray[np.float32]
"""Shape (frames, dimensions)."""

MEL_BINS = 80
WINDOW_SAMPLES = 400
"""25 ms; frames follow each other every 10 ms."""


def fbank_options(window: str) -> Any:
    """80 bins of 25 ms every 10 ms, without dither, so that equal audio gives equal features."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.window_type = window
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = MEL_BINS
    options.energy_floor = 0.0
    return options


def fbank(samples: Samples, *, window: str, scale: float = 1.0) -> Features:
    """(frames, 80) of a whole utterance; what is shorter than one window is padded with silence.

    Args:
        window: ``hamming`` for FunASR's recognisers, ``povey`` (Kaldi's own) for speaker models.
        scale: 32768 where the model was trained on 16-bit integers.
    """
    if len(samples) < WINDOW_SAMPLES:
        samples = np.pad(samples, (0, WINDOW_SAMPLES - len(samples)))
    computer = knf.OnlineFbank(fbank_options(window))
    computer.accept_waveform(SAMPLE_RATE, samples * np.float32(scale))
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def stack_frames(features: Features, *, width: int, step: int) -> Features:
    """Low frame rate: every ``step``-th frame with its neighbours, ``width`` in all, as one row.

    The first and the last frame stand in for what lies beyond them.
    """
    frames = len(features)
    starts = np.arange(-(-frames // step)) * step - (width - 1) // 2
    positions = np.clip(starts[:, None] + np.arange(width), 0, frames - 1)
    return np.asarray(features[positions].reshape(len(starts), -1), np.float32)


def read_cmvn(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What to add to each dimension and then to multiply it by, from Kaldi's text form. Raises ValueError."""
    rows = re.findall(r"<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", path.read_text())
    if len(rows) != 2:
        raise ValueError(f"{path.name} has {len(rows)} rows of numbers, not a shift and a scale")
    shift, scale = (np.array(row.split(), np.float32) for row in rows)
    return shift, scale
