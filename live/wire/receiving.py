"""The audio of one stream to ASR, from its messages: in order, decoded, and as long as it was spoken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
import numpy as np

from live.stages import FRAME_SAMPLES, AudioFrame
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.messages import BadMessage, from_audio_message
from live.wire.opus import LOOKAHEAD_SAMPLES, OpusDecoder, Pcm
from live.wire.reorder import Lost, ReorderBuffer
from speech.engines import SAMPLE_RATE

REORDER_DEPTH = 8
"""Messages."""
REORDER_SECONDS = 0.15
"""How late a message may be. Nothing waits for it unless others overtake it."""

MAX_GAP_SECONDS = 10.0
"""More than this cannot have been lost within an utterance."""

MAX_UTTERANCE_SECONDS = 60.0
"""More than twice what a gateway lets an utterance have: it is kept until it is answered."""

MAX_PACKET_SAMPLES = 120 * SAMPLE_RATE // 1000
"""The longest packet of Opus."""


@dataclass(frozen=True, slots=True)
class EndOfUtterance:
    """The audio before it is all of an utterance."""


Received = AudioFrame | EndOfUtterance
Message = asr.OpusPacket | AudioFrame | asr.EndUtterance


class AudioReceiver:
    """Turns the messages of one stream into the frames of its utterances.

    What was lost is concealed, so that everything after it keeps its time. Frames are of any length.
    """

    def __init__(self, flow_id: str) -> None:
        self._flow_id = flow_id
        self._order = ReorderBuffer[Message](depth=REORDER_DEPTH, seconds=REORDER_SECONDS)
        self._frames = 0
        self._lost = 0
        """Messages missing before the next one."""
        self._in_utterance = False
        self._start = self._position = 0
        """In the flow, of this utterance, and behind what was passed on of it."""
        self._limit = 0
        """Position behind the last sample that is known to belong to the utterance."""
        self._decoder: OpusDecoder | None = None
        self._decoder_start = 0
        """Position of the first sample that the decoder took."""
        self._skip = 0
        """Decoded samples still to come that precede the utterance."""

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` is due."""
        return self._order.deadline

    def push(self, request: asr.StreamRequest, now: float) -> Iterator[Received]:
        """Raises BadMessage."""
        message: Message
        match request.WhichOneof("request"):
            case "opus":
                message = request.opus
                if message.ns > MAX_PACKET_SAMPLES:
                    raise BadMessage(f"a packet of Opus does not have {message.ns} samples")
            case "pcm":
                message = from_audio_message(request.pcm)
            case "end_utterance":
                message = request.end_utterance
            case kind:
                raise BadMessage(f"a stream has audio and ends of utterances, not {kind or 'empty requests'}")
        yield from self._pass_on(self._order.push(message.seq, message, now))

    def expire(self, now: float) -> Iterator[Received]:
        """What is passed on by now without what is missing. Raises BadMessage."""
        yield from self._pass_on(self._order.expire(now))

    def flush(self) -> Iterator[Received]:
        """The rest: nothing more comes. Raises BadMessage."""
        yield from self._pass_on(self._order.flush())

    def _pass_on(self, messages: Iterable[Message | Lost]) -> Iterator[Received]:
        for message in messages:
            match message:
                case Lost():
                    self._lost = message.count
                    continue
                case asr.OpusPacket():
                    yield from self._opus(message)
                case AudioFrame():
                    yield from self._pcm(message)
                case asr.EndUtterance():
                    yield from self._end(message)
            self._lost = 0

    def _opus(self, packet: asr.OpusPacket) -> Iterator[AudioFrame]:
        if not self._in_utterance:
            self._begin(packet.pts, packet.ns)
        if self._decoder is None:
            self._decoder, self._decoder_start = OpusDecoder(), self._position
            self._skip = LOOKAHEAD_SAMPLES
        if packet.ns:
            self._limit = packet.pts
        yield from self._conceal(self._decoder, up_to=packet.pts)
        self._limit += packet.ns
        try:
            decoded = self._decoder.decode(packet.data)
        except (av.FFmpegError, ValueError):
            # what arrived is no packet: the next one's position tells how much is missing
            return
        yield from self._pass(decoded)

    def _pcm(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        if not self._in_utterance:
            self._begin(frame.pts, frame.ns)
        yield from self._close_decoder()
        yield from self._silence(up_to=frame.pts)
        self._limit = frame.end
        yield from self._pass(np.frombuffer(frame.pcm, "<i2")[max(0, self._position - frame.pts) :])

    def _end(self, end: asr.EndUtterance) -> Iterator[Received]:
        if not self._in_utterance:
            self._begin(end.pts, FRAME_SAMPLES)
        self._limit = end.pts
        if self._decoder is not None:
            yield from self._conceal(self._decoder, up_to=end.pts + LOOKAHEAD_SAMPLES)
        yield from self._close_decoder()
        yield from self._silence(up_to=end.pts)
        self._in_utterance = False
        yield EndOfUtterance()

    def _begin(self, position: int, samples: int) -> None:
        """An utterance's first message that arrived is here: those lost before it were as long as itself."""
        self._in_utterance = True
        self._start = self._position = max(0, position - self._lost * samples)

    def _conceal(self, decoder: OpusDecoder, *, up_to: int) -> Iterator[AudioFrame]:
        missing = up_to - (self._decoder_start + decoder.taken_samples)
        if missing > 0:
            yield from self._pass(decoder.conceal(_checked(missing)))

    def _close_decoder(self) -> Iterator[AudioFrame]:
        if self._decoder is not None:
            yield from self._pass(self._decoder.flush())
            self._decoder = None

    def _silence(self, *, up_to: int) -> Iterator[AudioFrame]:
        missing = up_to - self._position
        if missing > 0:
            self._limit = up_to
            yield from self._pass(np.zeros(_checked(missing), np.int16))

    def _pass(self, pcm: Pcm) -> Iterator[AudioFrame]:
        skipped = min(self._skip, len(pcm))
        self._skip -= skipped
        pcm = pcm[skipped : skipped + max(0, self._limit - self._position)]
        if len(pcm):
            frame = AudioFrame(self._flow_id, self._frames, pcm.tobytes(), self._position)
            self._frames += 1
            self._position += len(pcm)
            if self._position - self._start > MAX_UTTERANCE_SECONDS * SAMPLE_RATE:
                raise BadMessage(f"an utterance is longer than {MAX_UTTERANCE_SECONDS:g} s")
            yield frame


def _checked(samples: int) -> int:
    if samples > MAX_GAP_SECONDS * SAMPLE_RATE:
        raise BadMessage(f"{samples} samples are missing within an utterance, which is more than a network loses")
    return samples
