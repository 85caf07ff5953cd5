"""The schema: jobs and what their steps committed. Enums, checks and foreign keys live in Postgres too."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    Sequence,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class JobStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobPurpose(StrEnum):
    """What a job works on. Users see those of recordings as jobs, the others as what they make."""

    RECORDING = "recording"
    EXPORT = "export"
    FINETUNE = "finetune"


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class StepKind(StrEnum):
    """The units of work. ``purge`` removes a deleted job's objects, then its rows."""

    INGEST = "ingest"
    DRAFT = "draft"
    REFINE = "refine"
    DIARIZE = "diarize"
    EMBED = "embed"
    ALIGN = "align"
    FINALIZE = "finalize"
    PURGE = "purge"
    EXPORT = "export"
    FINETUNE = "finetune"


class StepState(StrEnum):
    """``ready`` and ``leased`` are open; ``dead`` spent its attempts; ``skipped`` was overtaken."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"


class Role(StrEnum):
    """Which model a hypothesis came from."""

    DRAFT = "draft"
    REFINED = "refined"


class SegmentSource(StrEnum):
    DRAFT = "draft"
    REFINED = "refined"
    HUMAN = "human"


class EventType(StrEnum):
    JOB_QUEUED = "job.queued"
    JOB_STARTED = "job.started"
    JOB_PROGRESS = "job.progress"
    SEGMENT_DRAFT = "segment.draft"
    SEGMENT_FINAL = "segment.final"
    SPEAKERS_ASSIGNED = "speakers.assigned"
    SEGMENT_CORRECTED = "segment.corrected"
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_RETRIED = "job.retried"


class Split(StrEnum):
    TRAIN = "train"
    VAL = "val"


class VersionState(StrEnum):
    """``rejected`` never served; ``rolled_back`` did and was worse; ``retired`` made room for a better one."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    SERVING = "serving"
    RETIRED = "retired"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class VoiceStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


def pg_enum(enum: type[StrEnum]) -> Enum:
    name = "".join("_" + c.lower() if c.isupper() else c for c in enum.__name__).lstrip("_")
    return Enum(enum, name=name, values_callable=lambda members: [member.value for member in members])


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        date: Date,
        datetime: DateTime(timezone=True),
        float: Float(53),
        Json: JSONB,
        list[Json]: JSONB,
        uuid.UUID: Uuid,
        **{
            enum: pg_enum(enum)
            for enum in (
                *(JobStatus, JobPurpose, Priority, StepKind, StepState, Role, SegmentSource, EventType),
                *(VoiceStatus, Split, VersionState),
            )
        },
    }


step_fence = Sequence("step_fence", metadata=Base.metadata)
"""Fencing tokens: every lease gets a larger one, so a worker that wakes up late can be told apart."""


class Job(Base):
    """One recording on its way to a transcript. Its row is the lock under which joins are decided."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("(bytes > 0) = (purpose = 'recording')", name="bytes_positive"),
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
        Index("ix_jobs_version_id", "version_id", postgresql_where=text("version_id IS NOT NULL")),
        Index("ix_jobs_listing", "tenant", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
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
    deleted_at: Mapped[datetime | None]
    idempotency_key: Mapped[str | None]

    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
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
    diarize: Mapped[bool] = mapped_column(server_default=text("false"))
    diarized: Mapped[int] = mapped_column(server_default="0")
    speakers_known: Mapped[bool] = mapped_column(server_default=text("false"))
    percent: Mapped[int] = mapped_column(server_default="0")

    models: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    degraded: Mapped[bool] = mapped_column(server_default=text("false"))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    source_key: Mapped[str]
    transcript_prefix: Mapped[str | None]
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    voice_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("voices.id", ondelete="SET NULL"))
    """The voice that this recording enrols; such a job makes no transcript."""
    version_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("model_versions.id", ondelete="SET NULL", use_alter=True)
    )
    """The tuned draft model that this job was given to; none where the catalogue's own serves."""


class Chunk(Base):
    """A span of at most 30 s cut in silence, and where its FLAC lies."""

    __tablename__ = "chunks"
    __table_args__ = (
        CheckConstraint('"start" >= 0 AND "end" > "start"', name="span"),
        CheckConstraint("index >= 0", name="index"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[float]
    end: Mapped[float]
    key: Mapped[str]
    channel: Mapped[int | None]
    """Where channels are transcribed apart: which one, from 0."""


class Step(Base):
    """One unit of work, the only record of what is to be done. Celery messages merely point here."""

    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("job_id", "kind", "chunk", postgresql_nulls_not_distinct=True),
        CheckConstraint(
            "(state = 'leased') <= (lease_until IS NOT NULL AND fence IS NOT NULL)", name="leased_has_lease"
        ),
        CheckConstraint("attempt >= 0", name="attempt"),
        Index("ix_steps_ready", "kind", "job_id", "chunk", postgresql_where=text("state = 'ready'")),
        Index("ix_steps_leased", "job_id", "kind", postgresql_where=text("state = 'leased'")),
        Index("ix_steps_expiry", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_steps_claimed", "job_id", "kind", "claimed_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[StepKind]
    chunk: Mapped[int | None]
    state: Mapped[StepState] = mapped_column(server_default=StepState.READY.value)
    attempt: Mapped[int] = mapped_column(server_default="0")
    outages: Mapped[int] = mapped_column(server_default="0")
    """How often a server below us was away; such attempts do not count."""
    run_after: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """From when it may be claimed; none while it waits for the chunk before it."""
    fence: Mapped[int | None] = mapped_column(BigInteger)
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    error: Mapped[str | None]
    result: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class StoredHypothesis(Base):
    """What one engine made of one chunk (the JSON of ``speech.words.Hypothesis``); never edited."""

    __tablename__ = "hypotheses"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "chunk"], ["chunks.job_id", "chunks.index"], ondelete="CASCADE"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[Role] = mapped_column(primary_key=True)
    engine: Mapped[Json]
    content: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoredSegment(Base):
    """A final segment of the transcript. Drafts are read from their hypotheses until then."""

    __tablename__ = "segments"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "chunk"], ["chunks.job_id", "chunks.index"], ondelete="CASCADE"),
        CheckConstraint('"end" >= "start" AND "start" >= 0', name="span"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
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
    """The segment as the models left it, where a person has corrected it since."""

    def to_json(self) -> Json:
        """The public shape of a segment, as ``speech.words.Segment.from_json`` reads it."""
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
            "words": self.words,
        }


class StoredSpeaker(Base):
    """Somebody who talks in a recording: a label, the voiceprint, and the enrolled voice that it matched."""

    __tablename__ = "speakers"
    __table_args__ = (Index("ix_speakers_voice_id", "voice_id", postgresql_where=text("voice_id IS NOT NULL")),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    voice_id: Mapped[uuid.UUID | None]
    """That of a voice which is no more stands for its refusal to be trained on."""
    score: Mapped[float | None]
    vector: Mapped[list[float]] = mapped_column(ARRAY(REAL))

    def to_json(self) -> Json:
        """The public shape of a speaker in a transcript."""
        voice = str(self.voice_id) if self.voice_id and self.name else None
        return {"label": self.label, "name": self.name, "voice_id": voice, "score": self.score}


class StoredVoice(Base):
    """An enrolled person: a name, and the voiceprint that one model made."""

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
    """Speech that the voiceprint was made of."""
    model: Mapped[str | None]
    """Voiceprints of different models cannot be compared."""
    vector: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    training: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether the person consents to what they say being trained on."""


class StoredTurn(Base):
    """A span in which one speaker talks; turns of different speakers may overlap."""

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


class Event(Base):
    """The replay log of a job: ``seq`` counts from 1 without gaps."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("seq > 0", name="seq"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[EventType]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


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
