"""Speakers of recordings, their turns, and enrolled voices."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    REAL,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import VoiceStatus


class StoredSpeaker(Base):
    """A speaker of a recording: label, voiceprint, and the enrolled voice that it matched."""

    __tablename__ = "speakers"
    __table_args__ = (
        Index("ix_speakers_voice_id", "voice_id", postgresql_where=text("voice_id IS NOT NULL")),
        Index("ix_speakers_name", "name", postgresql_where=text("name IS NOT NULL")),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    voice_id: Mapped[uuid.UUID | None]
    """If no such voice exists any more: it was deleted after refusing to be trained on."""
    score: Mapped[float | None]
    vector: Mapped[list[float]] = mapped_column(ARRAY(REAL))

    def to_json(self) -> Json:
        """The public shape of a speaker in a transcript."""
        voice = str(self.voice_id) if self.voice_id and self.name else None
        return {"label": self.label, "name": self.name, "voice_id": voice, "score": self.score}


class KnownSpeaker(Base):
    """A sample of somebody who may speak in one recording, until its speakers are assigned."""

    __tablename__ = "known_speakers"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sample: Mapped[bytes]
    """A media file."""


class StoredVoice(Base):
    """An enrolled person: name, and voiceprint of one model."""

    __tablename__ = "voices"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        CheckConstraint("(status = 'ready') = (vector IS NOT NULL)", name="ready_has_vector"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    status: Mapped[VoiceStatus] = mapped_column(server_default=VoiceStatus.PENDING.value)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seconds: Mapped[float | None]
    """Length of the speech that the voiceprint was made of."""
    model: Mapped[str | None]
    """Voiceprints of different models cannot be compared."""
    vector: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    training: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether the person's speech may become training data."""


class StoredTurn(Base):
    """A span in which one speaker talks. Turns of different speakers may overlap."""

    __tablename__ = "turns"
    __table_args__ = (
        ForeignKeyConstraint(
            ["job_id", "speaker"], ["speakers.job_id", "speakers.label"], ondelete="CASCADE", onupdate="CASCADE"
        ),
        CheckConstraint('"end" > "start" AND "start" >= 0', name="span"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[float]
    end: Mapped[float]
    speaker: Mapped[str]
