"""Schemas of transcripts: their JSON is made in ``speech``, and stored; these describe it."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from db.models import JobStatus, SegmentSource


class WordView(BaseModel):
    text: str
    start: float
    end: float
    confidence: float
    glued: bool = Field(False, description="No space precedes it.")


class SegmentView(BaseModel):
    """A timed span of text; times in seconds from the start of the recording."""

    index: int = Field(description="A stable handle, unique in the job; not a count.")
    chunk: int = Field(description="The finals of a chunk replace its drafts.")
    start: float
    end: float
    text: str
    speaker: str | None = Field(description="A label; null until speakers are told apart.")
    language: str | None
    confidence: float = Field(description="From 0 to 1.")
    source: SegmentSource
    version: int = Field(
        0, description="Number of the event that last changed it. A change that names another one is refused."
    )
    provisional: bool = Field(False, description="A draft that finals of its chunk are going to replace.")
    words: list[WordView]


class SpeakerView(BaseModel):
    label: str
    name: str | None = Field(description="Of the enrolled voice that matches.")
    voice_id: UUID | None
    score: float | None


class TurnView(BaseModel):
    """A span in which one speaker talks; turns of different people may overlap."""

    start: float
    end: float
    speaker: str


class TranscriptView(BaseModel):
    """A transcript as JSON."""

    job_id: UUID
    status: JobStatus
    language: str | None
    duration: float | None
    speakers: list[SpeakerView]
    turns: list[TurnView]
    segments: list[SegmentView]
