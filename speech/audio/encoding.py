"""Encoding a recording of any length as one file, while its audio comes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE

BITS_PER_SECOND = 24_000
"""Of Opus: wideband speech that nobody tells from the original. Ten hours are 108 MB."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a recording is kept."""

    codec: str
    container: str
    media_type: str
    bits_per_second: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


OPUS = Encoding(
    "libopus",
    "ogg",
    "audio/ogg",
    BITS_PER_SECOND,
    # 600 seconds of sound in one of a processor, twice as fast as the default, and not to be heard in speech
    {"compression_level": "3"},
)
"""Browsers play it, and seek it to the sample in files of any length."""
FLAC = Encoding("flac", "flac", "audio/flac")
"""Exact to 16 bits, five times the size."""


class _Output(io.RawIOBase):
    """What the encoder has written and nobody has taken yet; it need not be sought in."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._written)
        self._written.clear()
        return data


class Encoder:
    """Encodes audio block by block."""

    def __init__(self, encoding: Encoding) -> None:
        self._output = _Output()
        self._container = av.open(self._output, "w", format=encoding.container)
        options = dict(encoding.options)
        self._stream = cast(
            AudioStream, self._container.add_stream(encoding.codec, SAMPLE_RATE, options, layout="mono")
        )
        self._stream.codec_context.format = "s16"
        if encoding.bits_per_second is not None:
            self._stream.bit_rate = encoding.bits_per_second
        self._fifo = av.AudioFifo()
        self._samples = 0

    def push(self, block: NDArray[np.float32]) -> bytes:
        """Samples in -1..1, shape (samples,) or (channels, samples), which are mixed. Returns what is encoded."""
        mixed = block.mean(axis=0) if block.ndim > 1 else block
        if not len(mixed):
            return b""
        pcm = np.clip(np.rint(mixed * 32768), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._samples
        self._samples += len(pcm)
        self._fifo.write(frame)
        self._encode(partial=False)
        return self._output.take()

    def finish(self) -> bytes:
        """The end of the file; of one without audio there is none."""
        if not self._samples:
            return b""
        self._encode(partial=True)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._output.take()

    def _encode(self, *, partial: bool) -> None:
        # what is read has the length that the encoder wants; its last frame alone may be shorter
        for piece in self._fifo.read_many(self._stream.codec_context.frame_size or 4096, partial):
            self._container.mux(self._stream.encode(piece))
