"""A whole transcript: segments, turns and speakers."""

from __future__ import annotations

from dataclasses import dataclass

from speech.text.words import Segment, Turn


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody who talks in the recording; ``name``, ``voice_id`` and ``score`` where a known voice matched."""

    label: str
    name: str | None = None
    voice_id: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything there is to show of a job's words; ``duration`` in seconds."""

    job_id: str
    status: str
    language: str | None
    duration: float | None
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
