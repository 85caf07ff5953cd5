"""The audio of one stream to ASR, as messages: Opus, or PCM where that is wanted or Opus fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

import av
import numpy as np

from live.stages import AudioFrame
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.messages import to_audio_message
from live.wire.opus import LOOKAHEAD_SAMPLES, Pcm
from speech.engines import SAMPLE_RATE

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """One stream of packets."""

    def encode(self, pcm: Pcm) -> bytes: ...


class AudioSender:
    """Turns the frames of a stream's utterances into messages.

    Each utterance is a stream of Opus of its own. Where the encoder fails, the rest of the session goes as PCM,
    from what the receiver could not decode yet: nothing is missing.
    """

    def __init__(
        self,
        *,
        make_encoder: Callable[[], Encoder] | None,
        frame_ms: int,
        on_failure: Callable[[], None],
    ) -> None:
        """``make_encoder`` makes one of frames of ``frame_ms``; None for PCM. ``on_failure`` is called when PCM
        takes the place of Opus.
        """
        self._make_encoder = make_encoder
        self._packet_samples = frame_ms * SAMPLE_RATE // 1000
        self._on_failure = on_failure
        self._seq = 0
        self._encoder: Encoder | None = None
        self._flow_id = ""
        self._pending: Pcm = np.zeros(0, np.int16)
        self._encoded: Pcm = np.zeros(0, np.int16)
        """The end of what the encoder took, which the receiver has not decoded yet."""
        self._position = 0
        """In the flow, of the first pending sample."""
        self._end = 0
        """In the flow, behind the last sample of the utterance so far."""

    def frame(self, frame: AudioFrame) -> Iterator[asr.StreamRequest]:
        """Messages that the next frame of an utterance completes."""
        if len(self._pending) == len(self._encoded) == 0:
            self._position, self._flow_id = frame.pts, frame.flow_id
        self._pending = np.concatenate([self._pending, np.frombuffer(frame.pcm, "<i2")])
        self._end = frame.end
        if self._make_encoder is not None:
            yield from self._packets(self._make_encoder)
        if self._make_encoder is None:
            yield from self._pcm()

    def end(self) -> Iterator[asr.StreamRequest]:
        """The utterance is over: the rest of its audio, and its end."""
        if self._make_encoder is not None and len(self._pending) + len(self._encoded):
            # as much silence as it takes for the last sample to come out at the other end
            silence = LOOKAHEAD_SAMPLES + -(len(self._pending) + LOOKAHEAD_SAMPLES) % self._packet_samples
            self._pending = np.concatenate([self._pending, np.zeros(silence, np.int16)])
            yield from self._packets(self._make_encoder)
        if self._make_encoder is None:
            self._pending = self._pending[: self._end - self._position]
            yield from self._pcm()
        yield asr.StreamRequest(end_utterance=asr.EndUtterance(seq=self._number(), pts=self._end))
        self._encoder = None
        self._pending = self._encoded = np.zeros(0, np.int16)

    def _packets(self, make_encoder: Callable[[], Encoder]) -> Iterator[asr.StreamRequest]:
        while len(self._pending) >= self._packet_samples:
            samples = self._pending[: self._packet_samples]
            try:
                if self._encoder is None:
                    self._encoder = make_encoder()
                data = self._encoder.encode(samples)
            except (av.FFmpegError, ValueError):
                logger.exception("Opus cannot be encoded: the rest of this session goes to ASR as PCM")
                self._on_failure()
                self._make_encoder = self._encoder = None
                self._pending = np.concatenate([self._encoded, self._pending])
                self._position -= len(self._encoded)
                return
            spoken = min(len(samples), max(0, self._end - self._position))
            packet = asr.OpusPacket(seq=self._number(), pts=self._position, ns=spoken, data=data)
            self._pending = self._pending[len(samples) :]
            self._encoded = samples[-LOOKAHEAD_SAMPLES:]
            self._position += len(samples)
            yield asr.StreamRequest(opus=packet)

    def _pcm(self) -> Iterator[asr.StreamRequest]:
        if len(self._pending):
            frame = AudioFrame(self._flow_id, self._number(), self._pending.tobytes(), self._position)
            self._position += len(self._pending)
            self._pending = self._encoded = np.zeros(0, np.int16)
            yield asr.StreamRequest(pcm=to_audio_message(frame))

    def _number(self) -> int:
        self._seq += 1
        return self._seq - 1
