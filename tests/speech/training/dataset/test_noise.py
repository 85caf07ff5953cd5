from __future__ import annotations

import io

import numpy as np
import pytest

from speech.audio.media import open_media
from speech.engines import SAMPLE_RATE, Samples
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.noise import FRAME_SAMPLES, clipped_share, snr
from speech.training.dataset.rejection import reject_audio
from tests.media import DATA

RNG = np.random.default_rng(7)


def recording(name: str) -> Samples:
    with open_media(io.BytesIO((DATA / name).read_bytes()), max_duration=600) as media:
        return np.concatenate(list(media.blocks(seconds=30)))


def without_pauses(samples: Samples) -> Samples:
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    power = np.mean(frames**2, axis=1)
    loud: Samples = frames[power > np.percentile(power, 90) / 50].ravel()
    return loud


def with_noise(samples: Samples, decibels: float) -> Samples:
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    power = np.percentile(np.mean(frames**2, axis=1), 90) / 10 ** (decibels / 10)
    noisy: Samples = (samples + RNG.standard_normal(len(samples)) * np.sqrt(power)).astype(np.float32)
    return noisy


SPEECH = [recording("jfk.flac"), recording("zh_asr_example.flac"), recording("librivox_0880.flac")]


@pytest.mark.parametrize("decibels", [15, 10, 5])
@pytest.mark.parametrize("speech", SPEECH, ids=["jfk", "zh", "librivox"])
def test_the_noise_in_speech_is_measured(speech: Samples, decibels: float) -> None:
    assert snr(with_noise(speech, decibels)) == pytest.approx(decibels, abs=2)
    assert snr(with_noise(without_pauses(speech), decibels)) == pytest.approx(decibels, abs=2)


@pytest.mark.parametrize("speech", SPEECH, ids=["jfk", "zh", "librivox"])
def test_clean_speech_is_not_noisy_for_want_of_pauses(speech: Samples) -> None:
    assert snr(speech) > 30
    assert snr(without_pauses(speech)) > 18
    assert reject_audio(without_pauses(speech), Filters()) is None


def test_a_held_vowel_is_not_noise() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    vowel = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    assert snr(np.asarray(vowel, dtype=np.float32) * 0.1) > 20


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(SAMPLE_RATE, dtype=np.float32),
        np.zeros(10, dtype=np.float32),
        RNG.standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1,
        with_noise(SPEECH[0], 5),
    ],
    ids=["silence", "nothing", "hiss", "speech in noise"],
)
def test_noisy(samples: Samples) -> None:
    assert reject_audio(samples, Filters()) is Reason.NOISY


def test_clipped() -> None:
    loud = np.clip(SPEECH[0] * 8, -1, 1)
    assert clipped_share(loud) > 0.01
    assert reject_audio(loud, Filters()) is Reason.CLIPPED
    assert reject_audio(loud, Filters(max_clipped=1.0)) is None
    assert clipped_share(SPEECH[0]) == clipped_share(SPEECH[0][:0]) == 0.0
