"""What language models made of transcripts, and the templates by which tenants have it made."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import ReadingKind, ReadingStatus


class Reading(Base):
    """A summary, an answer or a translation of one transcript. Its number is the ``chunk`` of its step."""

    __tablename__ = "readings"
    __table_args__ = (
        CheckConstraint("(status = 'completed') = (content IS NOT NULL)", name="completed_has_content"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """That of the event that told of it: none is given twice, also once a reading is deleted."""
    kind: Mapped[ReadingKind]
    status: Mapped[ReadingStatus] = mapped_column(server_default=ReadingStatus.QUEUED.value)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    request: Mapped[Json]
    """What was asked for: language, model, template, question."""
    content: Mapped[Json | None] = mapped_column(JSONB)
    corrected_at: Mapped[datetime | None]
    """That of the job when the transcript was read; with another one the reading is stale."""
    model: Mapped[str | None]
    tokens: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    """``prompt`` and ``completion``, where the server counts them."""
    memo: Mapped[Json] = mapped_column(server_default=text("'{}'"), deferred=True)
    """Answers of the model so far, by the digest of what it was asked: another attempt goes on there."""
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]


class Template(Base):
    """How a tenant wants summaries."""

    __tablename__ = "templates"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    instructions: Mapped[str]
    parts: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Of ``title``, ``summary``, ``chapters``, ``actions``."""
    sentences: Mapped[int]
    """Most that the summary has."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
