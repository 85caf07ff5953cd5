"""Exports of training data, fine-tunings, and the model versions they lead to."""

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
from db.models.enums import Split, VersionState


class Export(Base):
    """Training data made of what was transcribed within a span of time. How it stands is told by its job."""

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint("until > since", name="window"),
        Index("ix_exports_tenant", "tenant", "date"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    date: Mapped[date]
    """The day it is of, or the last one."""
    since: Mapped[datetime]
    until: Mapped[datetime]
    dry_run: Mapped[bool]
    filters: Mapped[Json]
    cleaning: Mapped[Json]
    selected: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether every segment has been decided on, and people are in train or val for good."""
    summary: Mapped[Json | None] = mapped_column(JSONB)
    """The manifest, once everything is written; a dry run's names no files."""


class Sample(Base):
    """What an export decided on a segment: accepted where there is no ``reason``."""

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
    """Label in its recording; who that may be across recordings is ``person``."""
    seconds: Mapped[float]
    human: Mapped[bool]
    person: Mapped[int | None]
    split: Mapped[Split | None]
    sha256: Mapped[str | None]
    """Of the clip, once it is written."""


class FineTune(Base):
    """A fine-tuning of the tenant's draft model on some exports. How it stands is told by its job."""

    __tablename__ = "finetunes"
    __table_args__ = (Index("ix_finetunes_tenant", "tenant"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    exports: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    seconds: Mapped[float]
    """Of speech that is new since the fine-tuning before."""
    automatic: Mapped[bool]
    options: Mapped[Json]
    report: Mapped[Json | None] = mapped_column(JSONB)


class ModelVersion(Base):
    """A tuned draft model, for the jobs of one tenant alone."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("tenant", "number"),
        CheckConstraint("stage BETWEEN 0 AND 100", name="stage"),
        Index("uq_model_versions_serving", "tenant", unique=True, postgresql_where=text("state = 'serving'")),
        Index("uq_model_versions_canary", "tenant", unique=True, postgresql_where=text("state = 'canary'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    number: Mapped[int]
    state: Mapped[VersionState] = mapped_column(server_default=VersionState.CANDIDATE.value)
    stage: Mapped[int] = mapped_column(server_default="0")
    """Percentage of the tenant's jobs that it is given."""
    staged_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    """Why it is where it is, in a sentence."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finetune_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("finetunes.job_id", ondelete="SET NULL"))
    base: Mapped[str]
    """What it was tuned from: a version's id, or a name."""
    metrics: Mapped[Json]
    files: Mapped[Json]
    """For each file below ``models/{id}/`` its bytes and sha256."""


class Signal(Base):
    """How well the draft model did on a finished job."""

    __tablename__ = "signals"
    __table_args__ = (Index("ix_signals_tenant", "tenant", "version_id", "at"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    version_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    agreement: Mapped[float | None]
    """1 - character error rate of the drafts against the refinement; none where nothing was refined."""
    rejected: Mapped[float | None]
    """Share of refined chunks whose draft is too far from the refinement to be trained on."""
    rtf: Mapped[float | None]
    """Seconds of drafting for a second of sound."""
    errors: Mapped[float]
    """Share of chunks that the draft model gave up on."""
