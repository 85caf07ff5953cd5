"""The parts of remote stages that need no server."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from live.remote.breaker import CircuitBreaker
from live.stages import AudioFrame
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.messages import BadMessage, from_samples, from_start_message, to_audio_message
from live.wire.opus import OpusDecoder, OpusEncoder
from live.wire.receiving import AudioReceiver, EndOfUtterance
from live.wire.reorder import Lost, ReorderBuffer
from live.wire.sending import AudioSender
from tests.live.stages.tones import speak


def sent(count: int, *, at: int = 0, opus: bool = True, frame_ms: int = 20) -> list[asr.StreamRequest]:
    """One utterance of so many samples."""
    pcm = from_samples(np.resize(speak([3, 9, 14]), count))
    sender = AudioSender(
        make_encoder=(lambda: OpusEncoder(frame_ms=frame_ms)) if opus else None,
        frame_ms=frame_ms,
        on_failure=lambda: None,
    )
    messages: list[asr.StreamRequest] = []
    for place in range(0, len(pcm), 640):
        messages += sender.frame(AudioFrame("flow", 0, pcm[place : place + 640], at + place // 2))
    return [*messages, *sender.end()]


def received(messages: Sequence[asr.StreamRequest]) -> tuple[int, int, np.ndarray]:
    """(start, end, samples) of the one utterance, whose frames follow each other without gap or overlap."""
    receiver = AudioReceiver("flow")
    passed = [item for message in messages for item in receiver.push(message, 0.0)]
    passed += receiver.flush()
    frames = [item for item in passed if isinstance(item, AudioFrame)]
    assert passed == [*frames, EndOfUtterance()]
    assert all(a.end == b.pts for a, b in pairwise(frames))
    return frames[0].pts, frames[-1].end, np.concatenate([frame.samples for frame in frames])


@pytest.mark.parametrize("count", [1, 100, 216, 217, 320, 500, 640, 16_000, 16_123])
@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_an_utterance_keeps_its_place_and_length(count: int, frame_ms: int) -> None:
    start, end, _ = received(sent(count, at=5000, frame_ms=frame_ms))
    assert (start, end) == (5000, 5000 + count)


def test_decoded_audio_is_where_it_was() -> None:
    _, _, pcm = received(sent(9600, opus=False))
    _, _, opus = received(sent(9600))
    likeness = [float(np.dot(pcm[200:-200], np.roll(opus, shift)[200:-200])) for shift in range(-40, 41)]
    assert abs(int(np.argmax(likeness)) - 40) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_the_utterance_keeps_its_place_and_length(seed: int) -> None:
    generator = random.Random(seed)
    messages = [m for m in sent(16_000, at=800)[:-1] if generator.random() > 0.2]
    messages.append(sent(16_000, at=800)[-1])
    for place in range(0, len(messages) - 2, 3):
        if generator.random() < 0.3:
            messages[place], messages[place + 1] = messages[place + 1], messages[place]
    start, end, _ = received(messages)
    assert end == 16_800
    assert start == 800


def test_what_is_lost_is_made_up_and_then_silent() -> None:
    messages = sent(9600)
    decoder = OpusDecoder()
    for message in messages[:10]:
        decoder.decode(message.opus.data)
    made_up = np.abs(decoder.conceal(3200).astype(float))
    assert len(made_up) == 3200
    assert made_up[:320].mean() > 1000
    assert made_up[-960:].max() < 100


@pytest.mark.parametrize(
    "request_",
    [
        asr.StreamRequest(),
        asr.StreamRequest(start=asr.Start()),
        asr.StreamRequest(opus=asr.OpusPacket(ns=5000)),
    ],
)
def test_messages_that_no_client_sends_are_refused(request_: asr.StreamRequest) -> None:
    with pytest.raises(BadMessage):
        list(AudioReceiver("flow").push(request_, 0.0))


def test_an_utterance_without_an_end_is_refused() -> None:
    receiver = AudioReceiver("flow")

    def push(second: int) -> list[object]:
        frame = AudioFrame("flow", second, bytes(2 * 16_000), second * 16_000)
        return [*receiver.push(asr.StreamRequest(pcm=to_audio_message(frame)), 0.0)]

    assert all(len(push(second)) == 1 for second in range(60))
    with pytest.raises(BadMessage, match="longer than 60 s"):
        push(60)


@pytest.mark.parametrize("flow_id", ["a\nINFO all is well", "f" * 129])
def test_a_name_that_would_mislead_a_log_is_refused(flow_id: str) -> None:
    with pytest.raises(BadMessage):
        from_start_message(asr.Start(flow_id=flow_id))


def test_a_jump_costs_neither_memory_nor_time() -> None:
    receiver = AudioReceiver("flow")
    list(receiver.push(sent(640)[0], 0.0))
    jump = asr.StreamRequest(opus=asr.OpusPacket(seq=1, pts=2**62, ns=320, data=b"\0"))
    with pytest.raises(BadMessage, match="missing"):
        list(receiver.push(jump, 0.0))


def test_packets_that_are_damaged_count_as_lost() -> None:
    messages = sent(16_000)
    for place in (0, 7, 8, 30):
        messages[place].opus.data = b"\xff\xff\xff"
    messages[20].opus.data = b""
    assert received(messages)[:2] == (0, 16_000)


def test_order_is_restored_once_and_without_waiting_for_what_does_not_come() -> None:
    buffer = ReorderBuffer[int](depth=3, seconds=0.1)
    assert list(buffer.push(0, 0, 0.0)) == [0]
    assert list(buffer.push(2, 2, 0.0)) == []
    assert buffer.deadline == pytest.approx(0.1)
    assert list(buffer.push(2, 2, 0.01)) == []
    assert list(buffer.push(1, 1, 0.02)) == [1, 2]
    assert list(buffer.push(1, 1, 0.02)) == []
    assert buffer.deadline is None
    assert list(buffer.push(5, 5, 1.0)) == []
    assert list(buffer.expire(1.05)) == []
    assert list(buffer.expire(1.1)) == [Lost(2), 5]
    assert list(buffer.push(7, 7, 2.0)) == []
    assert list(buffer.push(8, 8, 2.0)) == []
    assert list(buffer.push(10, 10, 2.0)) == [Lost(1), 7, 8]
    assert list(buffer.flush()) == [Lost(1), 10]


def test_a_breaker_opens_probes_and_closes() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=2, seconds=5, clock=lambda: now)
    assert breaker.admits()
    breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    now = 5.0
    assert breaker.admits()
    assert not breaker.admits(), "one call alone finds out"
    breaker.failed()
    now = 9.9
    assert not breaker.admits()
    now = 10.0
    assert breaker.admits()
    breaker.answered()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits(), "it answered, but did nothing right since it failed"
    now = 15.0
    assert breaker.admits()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admits()
