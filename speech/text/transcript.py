"""A whole transcript: segments, turns and speakers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from speech.text.words import Segment, Turn


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker of the recording; ``name``, ``voice_id`` and ``score`` where a known voice matched."""

    label: str
    name: str | None = None
    voice_id: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that is rendered of a job; ``duration`` in seconds."""

    job_id: str
    status: str
    language: str | None
    duration: float | None
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    title: str | None = None
    """The recording's name."""
    date: datetime | None = None
    """When the recording was taken in."""
    channels: Mapping[int, int] = field(default_factory=dict)
    """From 0 on, by the index of the chunk, where channels are transcribed apart."""
