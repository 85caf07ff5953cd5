"""Hypotheses and final segments."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import Role, SegmentSource


class StoredHypothesis(Base):
    """One engine's transcription of one chunk (JSON of ``speech.text.words.Hypothesis``). Never edited."""

    __tablename__ = "hypotheses"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "chunk"], ["chunks.job_id", "chunks.index"], ondelete="CASCADE"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[Role] = mapped_column(primary_key=True)
    engine: Mapped[Json]
    content: Mapped[Json]
    original: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """What redaction took out (JSON of ``speech.text.redaction.redact.Original``), sealed; null where it is not
    kept."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoredSegment(Base):
    """A final segment of the transcript. Until then, segments are made from the draft's hypothesis."""

    __tablename__ = "segments"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "chunk"], ["chunks.job_id", "chunks.index"], ondelete="CASCADE"),
        CheckConstraint('"end" >= "start" AND "start" >= 0', name="span"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        Index("ix_segments_chunk", "job_id", "chunk"),
        Index("ix_segments_named", "speaker", postgresql_where=text("machine IS NOT NULL")),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    chunk: Mapped[int]
    start: Mapped[float]
    end: Mapped[float]
    text: Mapped[str]
    speaker: Mapped[str | None]
    language: Mapped[str | None]
    confidence: Mapped[float]
    source: Mapped[SegmentSource]
    words: Mapped[list[Json]]
    machine: Mapped[Json | None] = mapped_column(JSONB)
    """The segment before corrections, if a person has changed it; of one that was divided or joined, what the
    models wrote in its span."""
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Number of the event that last changed it; 0 as it was first made."""

    def to_json(self) -> Json:
        """The public shape of a segment, as ``speech.text.words.Segment.from_json`` reads it."""
        return {
            "index": self.index,
            "chunk": self.chunk,
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "speaker": self.speaker,
            "language": self.language,
            "confidence": self.confidence,
            "source": self.source.value,
            "version": self.version,
            "words": self.words,
        }
