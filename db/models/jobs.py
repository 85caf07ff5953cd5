"""Jobs and their chunks."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from pathlib import PurePath

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    case,
    cast,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import JobPurpose, JobStatus, Priority


class Job(Base):
    """A transcription, enrolment, export, fine-tuning or erasure. Its row is locked for every change."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "(bytes > 0) = (purpose = 'recording') OR (bytes = 0 AND source_url IS NOT NULL)",
            name="bytes_positive",
        ),
        CheckConstraint("final <= chunks AND drafted <= chunks AND refined <= chunks", name="counts"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
        CheckConstraint(
            "(status = 'completed' AND purpose = 'recording') <= (transcript_prefix IS NOT NULL)",
            name="completed_has_transcript",
        ),
        UniqueConstraint("tenant", "idempotency_key"),
        Index("ix_jobs_voice_id", "voice_id", postgresql_where=text("voice_id IS NOT NULL")),
        Index(
            "ix_jobs_settled",
            "tenant",
            text("coalesce(corrected_at, completed_at)"),
            postgresql_where=text("status = 'completed' AND purpose = 'recording'"),
        ),
        Index("ix_jobs_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
        Index("ix_jobs_version_id", "version_id", postgresql_where=text("version_id IS NOT NULL")),
        Index(
            *("ix_jobs_refined_version_id", "refined_version_id"),
            postgresql_where=text("refined_version_id IS NOT NULL"),
        ),
        Index("ix_jobs_listing", "tenant", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "ix_jobs_at_work",
            "tenant",
            postgresql_where=text("status IN ('queued', 'processing') AND deleted_at IS NULL"),
        ),
        Index(
            "ix_jobs_impatient",
            "id",
            postgresql_where=text("status = 'processing' AND options ? 'degrade_after'"),
        ),
        Index(
            "ix_jobs_active",
            "id",
            postgresql_where=text("status IN ('queued', 'processing') OR deleted_at IS NOT NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    purpose: Mapped[JobPurpose] = mapped_column(server_default=JobPurpose.RECORDING.value)
    status: Mapped[JobStatus] = mapped_column(server_default=JobStatus.QUEUED.value)
    priority: Mapped[Priority] = mapped_column(server_default=Priority.NORMAL.value)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    corrected_at: Mapped[datetime | None]
    """When a person last changed the finished transcript."""
    read_at: Mapped[datetime | None]
    """When a reading of the transcript was last asked for, made, or failed."""
    deleted_at: Mapped[datetime | None]
    idempotency_key: Mapped[str | None]
    key_id: Mapped[uuid.UUID | None]
    """The API key that made the job, as long as it is known by more than the environment."""
    trace: Mapped[str | None]
    """The ``traceparent`` of the request that made the job, if that was traced: its steps are spans below it."""
    audio_erased_at: Mapped[datetime | None]
    """When the recording and its chunks were removed; the transcript stays."""
    events_erased_at: Mapped[datetime | None]
    """When all events so far were removed."""

    filename: Mapped[str]
    title: Mapped[str | None]
    """What people call the recording, instead of its file's name."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    bytes: Mapped[int] = mapped_column(BigInteger)
    """0, and ``sha256`` empty, until a recording that was named by its address is fetched."""
    sha256: Mapped[str]
    source_url: Mapped[str | None]
    """Where the recording is fetched from: with its credentials until that is done, then without."""
    source_digest: Mapped[str | None]
    """SHA-256 of the address as it was given, by which a repeated request is known."""
    duration: Mapped[float | None]
    sample_rate: Mapped[int | None]
    channels: Mapped[int | None]
    language: Mapped[str | None]
    options: Mapped[Json]

    ingested: Mapped[bool] = mapped_column(server_default=text("false"))
    chunks: Mapped[int] = mapped_column(server_default="0")
    drafted: Mapped[int] = mapped_column(server_default="0")
    refined: Mapped[int] = mapped_column(server_default="0")
    final: Mapped[int] = mapped_column(server_default="0")
    has_segments: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether a segment was ever told of, in a draft or final."""
    diarize: Mapped[bool] = mapped_column(server_default=text("false"))
    diarized: Mapped[int] = mapped_column(server_default="0")
    speakers_known: Mapped[bool] = mapped_column(server_default=text("false"))
    percent: Mapped[int] = mapped_column(server_default="0")

    models: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    degraded: Mapped[bool] = mapped_column(server_default=text("false"))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    source_key: Mapped[str]
    peaks_key: Mapped[str | None]
    """The waveform, once the recording is cut (``speech.audio.peaks``)."""
    rendition_key: Mapped[str | None]
    """The recording as browsers play it, where they do not play it as it was uploaded."""
    transcript_prefix: Mapped[str | None]
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    voice_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("voices.id", ondelete="SET NULL"))
    """The voice that the recording enrols. Such a job makes no transcript."""
    version_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("model_versions.id", ondelete="SET NULL", use_alter=True)
    )
    """The tuned draft model of the job; none if the catalogue's own serves."""
    refined_version_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("model_versions.id", ondelete="SET NULL", use_alter=True)
    )
    """The same of what refines it."""

    @property
    def shown_name(self) -> str:
        """What people call it, or else the name of its file without the ending."""
        return self.title or PurePath(self.filename).stem


def number_option(name: str, default: float | None) -> ColumnElement[Decimal | None]:
    """A numeric option of a job, in SQL; the default where it is missing or not a number.

    Of arbitrary size: one job with an absurd number must not make a statement over all jobs fail. For the same
    reason it is compared with numbers, not added to times.
    """
    is_number = func.jsonb_typeof(Job.options[name]) == "number"
    return case((is_number, cast(Job.options[name].astext, Numeric)), else_=cast(default, Numeric))


class Chunk(Base):
    """At most 30 s of speech, cut in silence, and the key of its FLAC."""

    __tablename__ = "chunks"
    __table_args__ = (
        CheckConstraint('"start" >= 0 AND "end" > "start"', name="span"),
        CheckConstraint("index >= 0", name="index"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[float]
    end: Mapped[float]
    stretches: Mapped[list[list[float]] | None] = mapped_column(JSONB)
    """(start, end) in seconds of what the FLAC holds, one behind the other; None is the whole span."""
    key: Mapped[str]
    channel: Mapped[int | None]
    """Number of the channel, from 0, if channels are transcribed separately."""

    @property
    def spans(self) -> list[list[float]]:
        """The stretches, whoever stored the chunk."""
        return self.stretches or [[self.start, self.end]]
