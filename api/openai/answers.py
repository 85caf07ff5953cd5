"""Transcripts in OpenAI's shapes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from api.openai.fields import Granularity
from speech.text.formats import Format, render
from speech.text.languages import NAMES
from speech.text.rendering.prose import join_segments, spaced_texts
from speech.text.transcript import Transcript
from speech.text.words import Segment, Source

LEAST_CONFIDENCE = 1e-3
FRAMES_PER_SECOND = 100
"""``seek`` counts Whisper's frames."""


@dataclass(frozen=True, slots=True)
class HeardChunk:
    """Where a chunk of the recording begins, and the signals of the engines that heard it."""

    start: float
    signals: Mapping[Source, Mapping[str, float]]


def plain(transcript: Transcript) -> dict[str, Any]:
    """``json``"""
    return {"text": join_segments(transcript.segments), "usage": _usage(transcript)}


def verbose(
    transcript: Transcript,
    chunks: Mapping[int, HeardChunk],
    granularities: Collection[Granularity],
    *,
    translated: bool,
) -> dict[str, Any]:
    """``verbose_json``, by the granularities asked for."""
    answer: dict[str, Any] = {
        "task": "translate" if translated else "transcribe",
        "language": NAMES.get(transcript.language or "", transcript.language or "unknown"),
        "duration": transcript.duration or 0.0,
        "text": join_segments(transcript.segments),
    }
    if Granularity.WORD in granularities:
        answer["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for segment in transcript.segments
            for word in segment.words
        ]
    if Granularity.SEGMENT in granularities:
        spaced = zip(transcript.segments, spaced_texts(transcript.segments), strict=True)
        answer["segments"] = [
            _segment(number, segment, text, chunks.get(segment.chunk))
            for number, (segment, text) in enumerate(spaced)
        ]
    return answer | {"usage": _usage(transcript)}


def _segment(number: int, segment: Segment, text: str, chunk: HeardChunk | None) -> dict[str, Any]:
    signals = _signals(segment, chunk)
    spoken = segment.text.encode()
    return {
        "id": number,
        "seek": round((chunk.start if chunk else segment.start) * FRAMES_PER_SECOND),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": text,
        # of which model's vocabulary, a client could not know
        "tokens": [],
        "temperature": signals.get("temperature", 0.0),
        "avg_logprob": signals.get("avg_logprob", math.log(max(segment.confidence, LEAST_CONFIDENCE))),
        "compression_ratio": round(len(spoken) / len(zlib.compress(spoken)), 3),
        "no_speech_prob": signals.get("no_speech_prob", 0.0),
    }


def _signals(segment: Segment, chunk: HeardChunk | None) -> Mapping[str, float]:
    """Those of the engine that the words come from; of a person's, those that were heard best."""
    if chunk is None:
        return {}
    best = chunk.signals.get(Source.REFINED) or chunk.signals.get(Source.DRAFT) or {}
    return chunk.signals.get(segment.source, best)


def diarized(transcript: Transcript, known_names: Collection[str]) -> dict[str, Any]:
    """``diarized_json``"""
    return {
        "task": "transcribe",
        "duration": transcript.duration or 0.0,
        "text": join_segments(transcript.segments),
        "segments": list(diarized_segments(transcript, known_names)),
        "usage": _usage(transcript),
    }


def diarized_segments(transcript: Transcript, known_names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Segments with their speakers: names of enrolled voices, of all or of ``known_names`` alone, else letters."""
    shown: dict[str | None, str] = {
        speaker.label: speaker.name
        for speaker in transcript.speakers
        if speaker.name and (not known_names or speaker.name in known_names)
    }
    names = set(shown.values())
    letters = (letter for letter in _letters() if letter not in names)
    for number, segment in enumerate(transcript.segments):
        if segment.speaker not in shown:
            shown[segment.speaker] = next(letters)
        yield {
            "type": "transcript.text.segment",
            "id": f"seg_{number}",
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "text": segment.text,
            "speaker": shown[segment.speaker],
        }


def _letters() -> Iterator[str]:
    """A to Z, then AA, AB and so on."""
    for number in count():
        first, last = divmod(number, 26)
        yield (chr(ord("A") + first - 1) if first else "") + chr(ord("A") + last)


def subtitles(transcript: Transcript, format_: Format, *, speakers: bool) -> str:
    """``srt`` and ``vtt``"""
    if not speakers:
        segments = tuple(replace(segment, speaker=None) for segment in transcript.segments)
        transcript = replace(transcript, segments=segments)
    return render(transcript, format_).decode()


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": transcript.duration or 0.0}
