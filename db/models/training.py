"""Exports of training data, fine-tunings, and model versions."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import Role, Split, VersionState


class Export(Base):
    """Training data from the transcripts of a span of time. Its job has the status."""

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint("until > since", name="window"),
        Index("ix_exports_tenant", "tenant", "date"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    date: Mapped[date]
    """The day that it covers, or the last of them."""
    since: Mapped[datetime]
    until: Mapped[datetime]
    dry_run: Mapped[bool]
    filters: Mapped[Json]
    cleaning: Mapped[Json]
    selected: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether every segment has been accepted or rejected, and assigned to train or val."""
    summary: Mapped[Json | None] = mapped_column(JSONB)
    """The manifest, once all files are written. That of a dry run names no files."""


class Sample(Base):
    """The decision of an export on a segment: accepted if there is no ``reason``."""

    __tablename__ = "samples"
    __table_args__ = (
        Index("ix_samples_job_id", "job_id"),
        Index("ix_samples_fingerprint", "fingerprint", postgresql_where=text("reason IS NULL")),
        Index("ix_samples_text_hash", "export_id", "text_hash", postgresql_where=text("reason IS NULL")),
    )

    export_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("exports.job_id", ondelete="CASCADE"), primary_key=True
    )
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    chunk: Mapped[int]
    reason: Mapped[str | None]
    candidate: Mapped[Json]
    text: Mapped[str]
    fingerprint: Mapped[str]
    text_hash: Mapped[str]
    speaker: Mapped[str]
    """Label in the recording; ``person`` identifies the speaker across recordings."""
    seconds: Mapped[float]
    human: Mapped[bool]
    person: Mapped[int | None]
    split: Mapped[Split | None]
    sha256: Mapped[str | None]
    """Hash of the clip, once it is written."""


class FineTune(Base):
    """A fine-tuning of the tenant's draft or refine model on some exports. Its job has the status."""

    __tablename__ = "finetunes"
    __table_args__ = (Index("ix_finetunes_tenant", "tenant"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    role: Mapped[Role] = mapped_column(server_default=Role.DRAFT.value)
    exports: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    seconds: Mapped[float]
    """Seconds of speech that no earlier fine-tuning used."""
    automatic: Mapped[bool]
    options: Mapped[Json]
    report: Mapped[Json | None] = mapped_column(JSONB)


class ModelVersion(Base):
    """A tuned draft or refine model of one tenant."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("tenant", "number"),
        CheckConstraint("stage BETWEEN 0 AND 100", name="stage"),
        Index(
            *("uq_model_versions_serving", "tenant", "role"),
            unique=True,
            postgresql_where=text("state = 'serving'"),
        ),
        Index(
            *("uq_model_versions_canary", "tenant", "role"),
            unique=True,
            postgresql_where=text("state = 'canary'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    number: Mapped[int]
    role: Mapped[Role] = mapped_column(server_default=Role.DRAFT.value)
    engine: Mapped[str] = mapped_column(server_default="sensevoice")
    """What loads its files: ``sensevoice`` or ``whisper``."""
    state: Mapped[VersionState] = mapped_column(server_default=VersionState.CANDIDATE.value)
    stage: Mapped[int] = mapped_column(server_default="0")
    """Percentage of the tenant's jobs that it drafts or refines."""
    staged_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    """Why it has this state, in a sentence."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finetune_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("finetunes.job_id", ondelete="SET NULL"))
    base: Mapped[str]
    """The model it was tuned from: a version's id, or a name."""
    metrics: Mapped[Json]
    files: Mapped[Json]
    """Size and sha256 of each file below ``models/{id}/``."""


class Signal(Base):
    """Quality of the draft or refine model on a finished job."""

    __tablename__ = "signals"
    __table_args__ = (Index("ix_signals_tenant", "tenant", "role", "version_id", "at"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[Role] = mapped_column(primary_key=True, server_default=Role.DRAFT.value)
    tenant: Mapped[str]
    version_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    agreement: Mapped[float | None]
    """1 - character error rate of the drafts against the refinement; none if nothing was refined."""
    rejected: Mapped[float | None]
    """Share of refined chunks whose draft differs too much from the refinement to be trained on."""
    rtf: Mapped[float | None]
    """Seconds of drafting or refining per second of audio."""
    errors: Mapped[float]
    """Share of chunks whose step died."""
    loops: Mapped[float | None]
    """Share of chunks in which the model repeats itself."""
