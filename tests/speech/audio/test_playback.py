"""Waveforms and renditions are made block by block."""

from __future__ import annotations

import io

import numpy as np
import pytest

from speech.audio.encoding import FLAC, OPUS, Encoder, Encoding
from speech.audio.media import open_media
from speech.audio.peaks import PEAKS_PER_SECOND, PeakMeter
from speech.engines import SAMPLE_RATE
from tests.media import media_file, tone


def blocks(sound: np.ndarray, size: int) -> list[np.ndarray]:
    return [sound[..., i : i + size] for i in range(0, sound.shape[-1], size)]


@pytest.mark.parametrize("size", [1, 999, 16_000])
def test_peaks_do_not_depend_on_the_blocks(size: int) -> None:
    sound = np.concatenate([tone(0.2)[0], np.zeros(1600, np.float32), 4 * tone(0.05)[0]])
    meter = PeakMeter()
    for block in blocks(sound, size):
        meter.push(block)
    peaks = list(meter.finish())
    assert len(peaks) == -(-len(sound) * PEAKS_PER_SECOND // SAMPLE_RATE)
    assert (peaks[6], peaks[-1]) == (0, 255)
    assert peaks[0] == pytest.approx(127, abs=1)


def test_the_loudest_channel_is_drawn() -> None:
    meter = PeakMeter()
    meter.push(np.stack([tone(1)[0] / 2, tone(1)[0]]))
    assert max(meter.finish()) == pytest.approx(127, abs=1)


@pytest.mark.parametrize("encoding", [OPUS, FLAC])
def test_what_is_encoded_sounds_like_the_recording(encoding: Encoding) -> None:
    sound = tone(3.3, channels=2)
    encoder = Encoder(encoding)
    encoded = b"".join([*(encoder.push(block) for block in blocks(sound, 12_345)), encoder.finish()])
    with open_media(io.BytesIO(encoded), max_duration=60) as media:
        assert (media.info.codec, media.info.plays) == (encoding.container.replace("ogg", "opus"), True)
        decoded = np.concatenate(list(media.blocks(seconds=8)))
    assert len(decoded) == pytest.approx(sound.shape[1], abs=SAMPLE_RATE // 10)
    spectrum = np.abs(np.fft.rfft(decoded[: 2 * SAMPLE_RATE]))
    assert np.argmax(spectrum) / 2 == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("container", "codec", "plays"),
    [("wav", "pcm_s16le", True), ("flac", "flac", True), ("mp4", "aac", True), ("mp3", "libmp3lame", False)],
)
def test_what_browsers_play(container: str, codec: str, plays: bool) -> None:
    with open_media(io.BytesIO(media_file(tone(1), container=container, codec=codec)), max_duration=60) as media:
        assert media.info.plays == plays


def test_nothing_is_encoded_as_nothing() -> None:
    encoder = Encoder(OPUS)
    assert encoder.push(np.zeros(0, np.float32)) + encoder.finish() == b""
