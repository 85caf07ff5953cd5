from __future__ import annotations

import io

import av
import numpy as np
import pytest

from speech.audio import flac
from speech.audio.media import MediaError, open_media
from speech.engines import SAMPLE_RATE, Samples
from tests.media import BAD_MEDIA, DATA, load, media_file, tone


def decode(data: bytes, max_duration: float = 3600) -> Samples:
    with open_media(io.BytesIO(data), max_duration=max_duration) as media:
        return np.concatenate(list(media.blocks(seconds=2)))


def pitch(samples: Samples) -> float:
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(middle))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout", "channels"),
    [
        ("wav", "pcm_s16le", 16_000, "mono", 1),
        ("wav", "pcm_s16le", 44_100, "stereo", 2),
        ("wav", "pcm_mulaw", 8_000, "mono", 1),
        ("wav", "pcm_s16le", 48_000, "7.1", 8),
        ("flac", "flac", 44_100, "stereo", 2),
        ("mp3", "libmp3lame", 44_100, "stereo", 2),
        ("mp4", "aac", 44_100, "stereo", 2),
        ("ogg", "libopus", 48_000, "stereo", 2),
        ("webm", "libopus", 48_000, "mono", 1),
        ("matroska", "aac", 48_000, "5.1", 6),
    ],
)
def test_formats_decode_to_16_khz_mono(container: str, codec: str, rate: int, layout: str, channels: int) -> None:
    sound = tone(5, rate, channels)
    samples = decode(media_file(sound, rate=rate, container=container, codec=codec, layout=layout))
    assert abs(len(samples) / SAMPLE_RATE - 5) < 0.12
    assert abs(pitch(samples) - 440) < 2
    assert 0.1 < np.abs(samples).max() <= 1


def test_audio_of_a_video() -> None:
    data = media_file(tone(5), container="mp4", codec="aac", video_seconds=8)
    assert abs(len(decode(data)) / SAMPLE_RATE - 5) < 0.12


@pytest.mark.parametrize("name", BAD_MEDIA)
def test_unusable_files_fail_with_their_code(name: str) -> None:
    make, code = BAD_MEDIA[name]
    with pytest.raises(MediaError) as caught:
        decode(make())
    assert caught.value.code == code
    assert len(str(caught.value)) > 30


def test_missing_audio_becomes_silence() -> None:
    output = io.BytesIO()
    with av.open(output, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        for start in (0, 5):
            frame = av.AudioFrame.from_ndarray((tone(2) * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start * SAMPLE_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples = decode(output.getvalue())
    assert abs(len(samples) / SAMPLE_RATE - 7) < 0.1
    assert np.abs(samples[int(2.2 * SAMPLE_RATE) : int(4.8 * SAMPLE_RATE)]).max() < 0.01
    assert np.abs(samples[int(5.2 * SAMPLE_RATE) :]).max() > 0.4


def test_a_wav_of_unknown_length_is_decoded_whole() -> None:
    data = bytearray(media_file(tone(5), container="wav", codec="pcm_s16le"))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    assert abs(len(decode(bytes(data))) / SAMPLE_RATE - 5) < 0.1


def test_a_truncated_mp3_is_decoded_to_its_end() -> None:
    data = media_file(tone(20), container="mp3", codec="libmp3lame")
    assert 8 < len(decode(data[: len(data) // 2])) / SAMPLE_RATE < 12


def test_a_declared_duration_over_the_limit() -> None:
    with pytest.raises(MediaError) as caught:
        decode(media_file(tone(20), container="wav", codec="pcm_s16le"), max_duration=10)
    assert caught.value.code == "audio_too_long"
    assert "10 s" in str(caught.value)


def test_a_decoded_duration_over_the_limit() -> None:
    with pytest.raises(MediaError) as caught:
        decode(media_file(tone(20), container="mp3", codec="libmp3lame"), max_duration=10)
    assert caught.value.code == "audio_too_long"


def test_errors_of_the_file_object_pass_through() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("storage went away")

    with pytest.raises(ConnectionResetError), open_media(Broken(b"x" * 1000), max_duration=10):
        pass


def test_blocks_have_about_the_requested_length() -> None:
    with (DATA / "ocean_0036.flac").open("rb") as file, open_media(file, max_duration=3600) as media:
        lengths = [len(block) / SAMPLE_RATE for block in media.blocks(seconds=5)]
    assert all(5 <= length < 6 for length in lengths[:-1])
    assert abs(sum(lengths) - 52.4) < 0.1


def test_flac_is_exact_to_sixteen_bits() -> None:
    samples = load("jfk.flac")
    decoded = flac.decode(flac.encode(samples))
    assert np.abs(decoded - samples).max() <= 1 / 65536
    assert len(flac.decode(flac.encode(np.array([2.0, -2.0], np.float32)))) == 2
