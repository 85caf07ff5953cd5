"""Decoding any recording that FFmpeg reads into blocks of 16 kHz audio, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE, Samples

# Formats that contain one recording. Playlists and scripts, which make FFmpeg open other files, are excluded.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp2,mp3,mpeg,mpegts,mxf,ogg,opus,rm,tta,voc,w64,wav,wv"
)

# Containers whose declared duration comes from their index; in others it is estimated from the bit rate.
EXACT = {"mov", "mp4", "wav", "w64", "flac", "aiff", "caf", "matroska", "webm"}

# Sound that browsers play, in containers in which they find every moment: not in MP3 of a variable rate, nor in
# the WebM that they record themselves, which has no index.
PLAYED = {
    "wav": ("pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_u8"),
    "flac": ("flac",),
    "ogg": ("opus", "vorbis"),
    "mov,mp4,m4a,3gp,3g2,mj2": ("aac",),
}

GAP_SECONDS = 0.1
"""Where timestamps are further ahead of the samples than this, audio is missing and is replaced by silence."""

MAX_GAP_SECONDS = 600.0
"""Maximum seconds of missing audio to fill, where no declared duration bounds them."""

MAX_SPLIT_CHANNELS = 8
"""Maximum channels that are transcribed separately: each costs as much as a recording of its own."""

MIN_DECODED_SECONDS = 0.02
"""Seconds; a shorter recording counts as empty."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 4_000, 768_000
"""Hertz. Below, a few bytes are resampled to hours of sound; above, the resampler's filter outgrows memory."""

MAX_FRAME_SECONDS = 60.0
"""Seconds in one frame of a codec; real ones hold ten at most."""


class MediaError(Exception):
    """The recording cannot be used. ``code`` is stable; the message says what is wrong and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The file's own declarations; ``duration`` in seconds may be None, or an estimate unless it is ``exact``."""

    duration: float | None
    sample_rate: int
    channels: int
    codec: str
    container: str
    exact: bool
    plays: bool
    """Whether browsers play it, and seek it to the word."""


@contextmanager
def open_media(file: BinaryIO, *, max_duration: float, live_format: str | None = None) -> Iterator[Media]:
    """Open the best audio stream of a file, which is seekable unless it comes while it is read.

    ``live_format`` is the container of such a one. Raises MediaError; errors of the file itself pass through.
    """
    options = {"format_whitelist": FORMATS, "protocol_whitelist": ""}
    if live_format is not None:
        # what a header says suffices: no sound is waited for to guess the rest
        options |= {"probesize": "512", "analyzeduration": "1", "fflags": "nobuffer"}
    try:
        container = av.open(file, mode="r", format=live_format, options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise unreadable() from error
    with container:
        stream: Any = container.streams.best("audio")
        if stream is None:
            raise MediaError("audio_no_stream", "The file has no audio track; send a recording with sound.")
        if stream.rate:
            _check_rate(stream.rate)
        # a decoder's threads would be of no use to one track of audio, and a sandbox allows none
        stream.codec_context.thread_count = 1
        media = Media(container, stream, max_duration)
        if media.info.exact and media.info.duration is not None and media.info.duration > max_duration:
            raise _too_long(media.info.duration, max_duration)
        yield media


class Media:
    """An open recording. After :meth:`blocks` is exhausted, ``decoded_seconds`` is its true duration."""

    def __init__(self, container: Any, stream: Any, max_duration: float) -> None:
        self._container, self._stream, self._max_duration = container, stream, max_duration
        names = set(container.format.name.split(","))
        alone = len([s for s in container.streams if s.type in ("audio", "video")]) == 1
        # where a video may be longer than its sound, only a duration of the audio track itself is exact
        exact = bool(names & EXACT) and (stream.duration is not None or alone)
        self.info = MediaInfo(
            duration=_declared(container, stream),
            sample_rate=stream.rate or 0,
            channels=stream.channels or 0,
            codec=stream.codec_context.name,
            container=container.format.name,
            exact=exact,
            plays=alone and stream.codec_context.name in PLAYED.get(container.format.name, ()),
        )
        self._written = 0
        self._packets = self._bad_packets = 0

    @property
    def decoded_seconds(self) -> float:
        return self._written / SAMPLE_RATE

    def blocks(self, *, seconds: float) -> Iterator[Samples]:
        """Blocks of about this length, all channels mixed.

        Raises MediaError when the decoded audio is not the whole recording.
        """
        for block in self.pcm(seconds=seconds, split=False):
            yield to_float(block)[0]

    def channel_blocks(self, *, seconds: float) -> Iterator[NDArray[np.float32]]:
        """The same with the channels apart, (channels, samples). Raises MediaError for too many."""
        for block in self.pcm(seconds=seconds, split=True):
            yield to_float(block)

    def pcm(self, *, seconds: float, split: bool) -> Iterator[NDArray[np.int16]]:
        """The same as 16-bit samples, (samples, channels); one mixed channel unless ``split``."""
        if split and self.info.channels > MAX_SPLIT_CHANNELS:
            raise MediaError(
                "audio_too_many_channels",
                f"The recording has {self.info.channels} channels; at most {MAX_SPLIT_CHANNELS} can be "
                "transcribed apart. Leave the option channels=split out to have them mixed.",
            )
        pending: list[NDArray[np.int16]] = []
        held = 0
        for samples in self._resampled(None if split else "mono"):
            self._written += len(samples)
            if self.decoded_seconds > self._max_duration:
                raise _too_long(None, self._max_duration)
            pending.append(samples)
            held += len(samples)
            if held >= seconds * SAMPLE_RATE:
                yield np.concatenate(pending)
                pending, held = [], 0
        if pending:
            yield np.concatenate(pending)
        self._check_whole()

    def _resampled(self, layout: str | None) -> Iterator[NDArray[np.int16]]:
        """Decoded audio at 16 kHz on the timeline of the container, gaps filled with silence.

        Shape (samples, channels): one mixed channel for the layout ``mono``, those of the recording for None.
        """
        origin = (self._container.start_time or 0) / av.time_base
        resampler, source = None, None
        # with 16-bit output, the downmix of many channels stays within range
        for frame in self._frames():
            _check_rate(frame.sample_rate)
            if frame.samples > MAX_FRAME_SECONDS * frame.sample_rate:
                raise unreadable()
            shape = (frame.format.name, frame.layout.name, frame.sample_rate)
            if shape != source:
                if resampler is not None:
                    yield from _samples(resampler.resample(None))
                # a stream that changes its channels midway is converted to its first layout
                layout = layout or frame.layout.name
                resampler, source = av.AudioResampler("s16", layout, SAMPLE_RATE), shape
            gap = self._gap(frame, origin)
            if gap:
                yield from _silence(gap, av.AudioLayout(layout or frame.layout.name).nb_channels)
            frame.pts = None  # from here on the sample count gives the time
            yield from _samples(resampler.resample(frame))  # type: ignore[union-attr]
        if resampler is not None:
            yield from _samples(resampler.resample(None))

    def _gap(self, frame: Any, origin: float) -> int:
        """Samples of silence to insert before this frame; none where timestamps are missing or implausible."""
        if frame.time is None:
            return 0
        at = frame.time - origin
        ahead = at - self.decoded_seconds
        declared = self.info.duration
        absurd = ahead > MAX_GAP_SECONDS if declared is None else at > declared + 1
        return 0 if ahead <= GAP_SECONDS or absurd else int(ahead * SAMPLE_RATE)

    def _frames(self) -> Iterator[Any]:
        """Decoded frames. Packets that cannot be decoded are counted and skipped."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                self._packets += 1
                yield from packet.decode()
            except StopIteration:
                return
            except av.EOFError:
                return
            except MemoryError:
                raise
            except av.FFmpegError:
                self._bad_packets += 1
                if self._bad_packets > 100 and 2 * self._bad_packets > self._packets:
                    return

    def _check_whole(self) -> None:
        if self.decoded_seconds < MIN_DECODED_SECONDS or 2 * self._bad_packets > self._packets:
            if self._bad_packets:
                raise unreadable()
            raise MediaError("audio_empty", "The file holds no audio samples; it may have been cut off.")
        declared = self.info.duration
        if self.info.exact and declared and declared - self.decoded_seconds > max(2.0, 0.02 * declared):
            raise MediaError(
                "audio_truncated",
                f"The recording decodes to {self.decoded_seconds:.1f} of {declared:.1f} s: the file was cut off "
                "or is damaged. Upload it again, or repair it and upload the result.",
            )


def _declared(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    else:
        return None
    return duration if duration > 0 else None


def to_float(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """(samples, channels) of 16 bits to (channels, samples) in -1..1."""
    return np.ascontiguousarray(pcm.T).astype(np.float32) / np.float32(32768)


def _samples(frames: list[Any]) -> Iterator[NDArray[np.int16]]:
    for frame in frames:
        # packed: of exactly eight planar channels PyAV reads past the last plane
        yield frame.to_ndarray().reshape(frame.samples, -1)


def _silence(count: int, channels: int) -> Iterator[NDArray[np.int16]]:
    while count > 0:
        size = min(count, 10 * SAMPLE_RATE)
        yield np.zeros((size, channels), np.int16)
        count -= size


def _check_rate(rate: int) -> None:
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise MediaError(
            "audio_sample_rate",
            f"The recording has {rate} samples a second; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} can be "
            "transcribed. Convert it, or export it anew.",
        )


def unreadable() -> MediaError:
    return MediaError(
        "audio_unreadable",
        "The file could not be read as audio or video; it may be damaged, incomplete, or of another kind. "
        "Send a WAV, FLAC, MP3, M4A, MP4, OGG, WebM or similar recording.",
    )


def _too_long(duration: float | None, limit: float) -> MediaError:
    length = f"{duration:.0f} s long" if duration else "longer than it declares"
    return MediaError(
        "audio_too_long",
        f"The recording is {length}; this server takes at most {limit:.0f} s. Split it into shorter files.",
    )
