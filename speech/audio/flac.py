"""Encoding and decoding chunks as FLAC: 16-bit, 16 kHz, mono."""

from __future__ import annotations

import io

import av
import numpy as np

from speech.engines import SAMPLE_RATE, Samples


class DecodeError(Exception):
    """Not a FLAC file, or a damaged one."""


def encode(samples: Samples) -> bytes:
    """A whole FLAC file; exact to 16 bits."""
    output = io.BytesIO()
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    with av.open(output, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        for piece in fifo.read_many(4096, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return output.getvalue()


def decode(data: bytes) -> Samples:
    """The samples of a file that :func:`encode` made. Raises DecodeError."""
    try:
        with av.open(io.BytesIO(data), "r", format="flac") as container:
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        return np.concatenate(blocks).astype(np.float32) / np.float32(32768)
    except (av.FFmpegError, ValueError) as error:
        raise DecodeError(str(error)) from error
