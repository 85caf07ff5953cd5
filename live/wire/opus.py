"""Opus (RFC 6716) for 16 kHz mono speech, by the libopus within PyAV."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from speech.engines import SAMPLE_RATE

Pcm = NDArray[np.int16]
"""Mono audio at SAMPLE_RATE, shape (samples,)."""

LOOKAHEAD_SAMPLES = 104
"""What a decoder puts out lags behind what was encoded by so many samples: 6.5 ms, whatever the bit rate."""

DECODED_RATE = 48_000
"""Hertz that libopus is decoded at."""

MAX_CONCEALED_PACKETS = 5
"""What libopus makes up fades to nothing within about so many."""


class OpusEncoder:
    """One stream of packets, with a variable bit rate."""

    def __init__(self, *, bitrate: int = 24_000, frame_ms: int = 20) -> None:
        """``bitrate`` in bits a second. Raises av.FFmpegError or ValueError where PyAV has no libopus."""
        self._codec = av.AudioCodecContext.create("libopus", "w")
        self._codec.sample_rate = SAMPLE_RATE
        self._codec.layout = "mono"
        self._codec.format = "s16"
        self._codec.bit_rate = bitrate
        self._codec.options = {"application": "voip", "frame_duration": str(frame_ms), "vbr": "on"}
        self._codec.open()

    def encode(self, pcm: Pcm) -> bytes:
        """The packet of exactly one frame's samples. Raises av.FFmpegError."""
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        (packet,) = self._codec.encode(frame)
        return bytes(packet)


class OpusDecoder:
    """The other end of one stream. In all, as many samples come out as went in, LOOKAHEAD_SAMPLES later."""

    def __init__(self) -> None:
        self._codec = av.AudioCodecContext.create("libopus", "r")
        self._codec.sample_rate = DECODED_RATE
        self._codec.layout = "mono"
        self._codec.open()
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        self._mode: int | None = None
        self.taken_samples = 0
        """Of all packets so far, and of those that were concealed."""

    def decode(self, packet: bytes) -> Pcm:
        """Raises av.FFmpegError or ValueError where this is no packet of Opus."""
        if not packet:
            raise ValueError("an empty packet, which would end the stream")
        decoded = self._decode(packet)
        self._mode = packet[0]
        return decoded

    def conceal(self, samples: int) -> Pcm:
        """What takes the place of lost packets: libopus goes on with what it heard, then there is silence."""
        wanted = self.taken_samples + samples
        made_up = [np.zeros(0, np.int16)]
        while self._mode is not None and len(made_up) <= MAX_CONCEALED_PACKETS and self.taken_samples < wanted:
            # a packet whose only frame is empty says that the frame was lost (RFC 6716, sections 3.1 and 3.2.1)
            made_up.append(self._decode(bytes([self._mode & 0b1111_1100])))
        if silent := max(0, wanted - self.taken_samples):
            pcm = np.zeros((1, silent * DECODED_RATE // SAMPLE_RATE), np.int16)
            made_up.append(self._resample(av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")))
        return np.concatenate(made_up)

    def flush(self) -> Pcm:
        """What the resampler still holds. The stream is then over."""
        return _joined(self._resampler.resample(None))

    def _decode(self, packet: bytes) -> Pcm:
        return np.concatenate(
            [np.zeros(0, np.int16), *(self._resample(frame) for frame in self._codec.decode(av.Packet(packet)))]
        )

    def _resample(self, frame: av.AudioFrame) -> Pcm:
        frame.sample_rate = DECODED_RATE
        frame.pts = None
        self.taken_samples += frame.samples * SAMPLE_RATE // DECODED_RATE
        return _joined(self._resampler.resample(frame))


def _joined(frames: list[av.AudioFrame]) -> Pcm:
    return np.concatenate([np.zeros(0, np.int16), *(frame.to_ndarray().reshape(-1) for frame in frames)])
