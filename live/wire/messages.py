"""The types of the stages as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from live.stages import AsrEvent, AsrFinal, AsrPartial, AsrStart, AudioFrame
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.common.v1 import audio_pb2 as common
from speech.engines import SAMPLE_RATE, Samples
from speech.text.words import Word

MAX_FRAME_SAMPLES = 30 * SAMPLE_RATE
"""Of one message."""

MAX_FLOW_ID = 128


class BadMessage(Exception):
    """A message that no client of ours sends. The text says what is wrong with it."""


def to_audio_message(frame: AudioFrame) -> common.AudioFrame:
    return common.AudioFrame(
        flow_id=frame.flow_id,
        seq=frame.seq,
        sr=frame.sample_rate,
        channels=frame.channels,
        ns=frame.ns,
        pts=frame.pts,
        pcm=frame.pcm,
    )


def from_audio_message(message: common.AudioFrame) -> AudioFrame:
    """A frame of 16 kHz mono. Raises BadMessage."""
    if (message.sr, message.channels) != (SAMPLE_RATE, 1):
        raise BadMessage(f"audio has to be 16 kHz mono, not {message.sr} Hz in {message.channels} channels")
    if len(message.pcm) != 2 * message.ns:
        raise BadMessage(f"{len(message.pcm)} bytes of pcm are not {message.ns} samples of 16 bits")
    if message.ns > MAX_FRAME_SAMPLES:
        raise BadMessage(f"{message.ns} samples are too many for one frame")
    return AudioFrame(message.flow_id, message.seq, message.pcm, message.pts)


def from_samples(samples: Samples) -> bytes:
    """Float32 in -1..1 as the PCM of a frame; exact for what came from such PCM."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def in_frames(samples: Samples) -> list[Samples]:
    """Pieces that one message can hold each; at least one, which may be empty."""
    return np.split(samples, range(MAX_FRAME_SAMPLES, len(samples), MAX_FRAME_SAMPLES))


def to_start_message(start: AsrStart) -> asr.Start:
    return asr.Start(
        flow_id=start.flow_id,
        language=start.language or "",
        expected=start.expected or "",
        domain=start.domain or "",
        hotwords=start.hotwords,
        partials=start.partials,
    )


def from_start_message(message: asr.Start) -> AsrStart:
    """Raises BadMessage."""
    if len(message.flow_id) > MAX_FLOW_ID or not message.flow_id.isprintable():
        raise BadMessage(f"a flow is named by {MAX_FLOW_ID} printable characters at most, as logs have it")
    return AsrStart(
        flow_id=message.flow_id,
        language=message.language or None,
        expected=message.expected or None,
        domain=message.domain or None,
        hotwords=tuple(message.hotwords),
        partials=message.partials,
    )


def to_event_message(event: AsrEvent) -> asr.AsrEvent:
    match event:
        case AsrPartial():
            partial = asr.Partial(
                utterance=event.utterance,
                stable=_to_words(event.stable),
                unstable=_to_words(event.unstable),
                end=event.end,
                language=event.language or "",
            )
            return asr.AsrEvent(partial=partial)
        case AsrFinal():
            final = asr.Final(
                utterance=event.utterance,
                start=event.start,
                end=event.end,
                words=_to_words(event.words),
                language=event.language or "",
                confidence=event.confidence,
            )
            return asr.AsrEvent(final=final)


def from_event_message(message: asr.AsrEvent) -> AsrEvent | None:
    """None for a kind of event that later servers may send."""
    match message.WhichOneof("event"):
        case "partial":
            partial = message.partial
            return AsrPartial(
                utterance=partial.utterance,
                stable=_from_words(partial.stable),
                unstable=_from_words(partial.unstable),
                end=partial.end,
                language=partial.language or None,
            )
        case "final":
            final = message.final
            return AsrFinal(
                utterance=final.utterance,
                start=final.start,
                end=final.end,
                words=_from_words(final.words),
                language=final.language or None,
                confidence=final.confidence,
            )
        case _:
            return None


def _to_words(words: Iterable[Word]) -> list[asr.Word]:
    return [
        asr.Word(text=word.text, start=word.start, end=word.end, confidence=word.confidence, glued=word.glued)
        for word in words
    ]


def _from_words(messages: Iterable[asr.Word]) -> tuple[Word, ...]:
    return tuple(Word(m.text, m.start, m.end, m.confidence, m.glued) for m in messages)
