"""Encoding a recording of any length as one file, while its audio comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from speech.engines import SAMPLE_RATE, Samples

BIT_RATE = 24_000
"""Of Opus, in bits a second: wideband speech that nobody tells from the original."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a recording is kept."""

    codec: str
    container: str
    ending: str


OPUS = Encoding("libopus", "ogg", "ogg")
FLAC = Encoding("flac", "flac", "flac")
"""Exact to 16 bits, five times the size."""


class _Sink:
    """What a container writes to that need not be sought in."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def encode(blocks: Iterable[Samples], encoding: Encoding) -> Iterator[bytes]:
    """The bytes of one file that holds the blocks, one behind the other; nothing where there is no audio."""
    sink = _Sink()
    fifo = av.AudioFifo()
    written = 0
    with av.open(sink, "w", format=encoding.container) as container:
        stream: Any = container.add_stream(encoding.codec, rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        if encoding is OPUS:
            stream.bit_rate = BIT_RATE
            stream.options = {"application": "voip"}
        for samples in blocks:
            if not len(samples):
                continue
            pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = written
            written += len(pcm)
            fifo.write(frame)
            # what is read has the length that the encoder wants; its last frame alone may be shorter
            for piece in fifo.read_many(stream.codec_context.frame_size or 4096):
                container.mux(stream.encode(piece))
            if encoded := sink.take():
                yield encoded
        if not written:
            return
        if (rest := fifo.read(partial=True)) is not None:
            container.mux(stream.encode(rest))
        container.mux(stream.encode(None))
    if encoded := sink.take():
        yield encoded
