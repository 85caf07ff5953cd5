"""Generated media files, valid and broken."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from speech.audio.media import open_media
from speech.engines import SAMPLE_RATE, Samples

DATA = Path(__file__).parent / "data"


def load(name: str) -> Samples:
    """A recording of tests/data as 16 kHz mono."""
    with (DATA / name).open("rb") as file, open_media(file, max_duration=3600) as media:
        return np.concatenate(list(media.blocks(seconds=8)))


def tone(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> np.ndarray:
    """A sine of 440 Hz at half scale, float32, shape (channels, samples)."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


def media_file(
    sound: np.ndarray | None,
    *,
    rate: int = SAMPLE_RATE,
    container: str,
    codec: str | None,
    layout: str = "mono",
    video_seconds: float = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file with this sound, and a grey picture when ``video_seconds`` is given."""
    # on disk, since a muxer that moves its index to the front reads its own output
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container, options=options or {}) as target:
            video: Any = target.add_stream("mpeg4", rate=10) if video_seconds else None
            audio: Any = target.add_stream(codec, rate=rate, layout=layout) if codec else None
            if video is not None:
                _add_video(target, video, video_seconds)
            if sound is not None:
                _add_audio(target, audio, sound, rate, layout)
        return Path(file.name).read_bytes()


def _add_video(target: Any, stream: Any, seconds: float) -> None:
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for number in range(int(seconds * 10)):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))


def _add_audio(target: Any, stream: Any, sound: np.ndarray, rate: int, layout: str) -> None:
    packed = np.ascontiguousarray(sound.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler(stream.codec_context.format, layout, rate, stream.frame_size or 1024)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        target.mux(stream.encode(piece))
    target.mux(stream.encode(None))


def mp4(seconds: float, *, faststart: bool = False) -> bytes:
    options = {"movflags": "faststart"} if faststart else {}
    return media_file(tone(seconds), container="mp4", codec="aac", options=options)


def _header_of(sound: np.ndarray) -> bytes:
    whole = media_file(sound, container="wav", codec="pcm_s16le")
    return whole[: whole.index(b"data") + 8]


BAD_MEDIA: dict[str, tuple[Callable[[], bytes], str]] = {
    "text renamed .mp3": (lambda: b"Dear diary, this is not a recording at all.\n" * 500, "audio_unreadable"),
    "random bytes": (lambda: np.random.default_rng(7).bytes(200_000), "audio_unreadable"),
    "a playlist": (lambda: b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n", "audio_unreadable"),
    "an MP4 cut off before its index": (lambda: mp4(20)[:60_000], "audio_unreadable"),
    "an MP4 cut off behind its index": (lambda: mp4(20, faststart=True)[:-120_000], "audio_truncated"),
    "video without sound": (
        lambda: media_file(None, container="mp4", codec=None, video_seconds=2),
        "audio_no_stream",
    ),
    "a WAV without samples": (lambda: _header_of(tone(1)), "audio_empty"),
}
"""Files that are no recordings, each with its error code."""
