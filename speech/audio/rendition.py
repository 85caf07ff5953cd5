"""A recording as browsers play it: Ogg Opus, which they seek to the sample in files of any length."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE

MEDIA_TYPE = "audio/ogg"
BITS_PER_SECOND = 24_000
"""Of one channel. Ten hours are 108 MB."""
SPEED = {"compression_level": "3"}
"""600 seconds of sound in one of a processor, twice as fast as the default, and not to be heard in speech."""


class _Output(io.RawIOBase):
    """What the encoder has written and nobody has taken yet."""

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


class OpusEncoder:
    """Encodes audio block by block."""

    def __init__(self) -> None:
        self._output = _Output()
        self._container = av.open(self._output, "w", format="ogg")
        self._stream = self._container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options=SPEED)
        self._stream.bit_rate = BITS_PER_SECOND
        self._stream.codec_context.format = "s16"
        self._fifo = av.AudioFifo()
        self._samples = 0

    def push(self, block: NDArray[np.float32]) -> bytes:
        """Samples in -1..1, shape (samples,) or (channels, samples), which are mixed. Returns what is encoded."""
        mixed = block.mean(axis=0) if block.ndim > 1 else block
        pcm = np.clip(np.rint(mixed * 32768), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._samples
        self._samples += len(pcm)
        self._fifo.write(frame)
        self._encode(partial=False)
        return self._output.take()

    def finish(self) -> bytes:
        """The end of the file."""
        self._encode(partial=True)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._output.take()

    def _encode(self, *, partial: bool) -> None:
        for piece in self._fifo.read_many(self._stream.codec_context.frame_size or SAMPLE_RATE // 50, partial):
            self._container.mux(self._stream.encode(piece))
