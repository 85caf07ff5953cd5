"""Who may use the API, what they used, and what was done: keys, tenants, usage, the audit log, erasures.

None of these rows refers to a job by a foreign key: they outlive what they tell of.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    LargeBinary,
    Sequence,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import Priority

access_revision = Sequence("access_revision", metadata=Base.metadata)
"""Numbers the changes of keys and tenants, so that processes can ask for what is new to them."""


class StoredKey(Base):
    """An API key. The key itself is not stored: it is known by its SHA-256."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("ix_api_keys_tenant", "tenant", "created_at"),
        Index("ix_api_keys_revision", "revision"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str]
    """The beginning of the key, which lists show."""
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Values of ``Scope``; a newer version may know others."""
    max_priority: Mapped[Priority] = mapped_column(server_default=Priority.NORMAL.value)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To within some seconds: uses are written together."""
    revision: Mapped[int] = mapped_column(BigInteger, server_default=access_revision.next_value())


class SigningKey(Base):
    """A key that signs short-lived tokens. Its public half stays known until the last token of it has expired."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    """From then on it signs no more."""


class Tenant(Base):
    """What a tenant may use, and for how long its data is kept. Where a value is missing, the settings decide."""

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint(
            "least(audio_hours_month, stored_bytes, jobs_at_once, requests_per_minute, event_streams, "
            "uploads_at_once, steps_at_once, retain_audio_days, retain_transcript_days, retain_events_days) >= 0",
            name="not_negative",
        ),
        Index("ix_tenants_shares", "name", postgresql_where=text("steps_at_once IS NOT NULL")),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    audio_hours_month: Mapped[float | None]
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    jobs_at_once: Mapped[int | None]
    requests_per_minute: Mapped[int | None]
    event_streams: Mapped[int | None]
    uploads_at_once: Mapped[int | None]
    steps_at_once: Mapped[int | None]
    """Of one kind, in work."""
    retain_audio_days: Mapped[float | None]
    retain_transcript_days: Mapped[float | None]
    retain_events_days: Mapped[float | None]
    redact: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Kinds of personal data that are left out of transcripts."""
    keep_original: Mapped[bool | None]
    """Whether the text before redaction is kept, encrypted."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revision: Mapped[int] = mapped_column(BigInteger, server_default=access_revision.next_value())


class StoredBytes(Base):
    """A change of a tenant's bytes of recordings, by a trigger on ``jobs``; the sum is what it keeps."""

    __tablename__ = "stored_bytes"
    __table_args__ = (Index("ix_stored_bytes_tenant", "tenant", postgresql_include=["bytes"]),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)


class UsageRecord(Base):
    """Audio that a stage of a job has processed. Rows are only ever added: a trigger refuses other changes."""

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_tenant", "tenant", "at"),
        Index("ix_usage_job_id", "job_id"),
        Index(
            "ix_usage_uploads",
            "tenant",
            "at",
            postgresql_include=["audio_seconds"],
            postgresql_where=text("stage = 'upload'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant: Mapped[str]
    key_id: Mapped[uuid.UUID | None]
    job_id: Mapped[uuid.UUID]
    stage: Mapped[str]
    """``upload``, with the bytes and the whole duration, or the kind of step that processed the audio."""
    engine: Mapped[str | None]
    model: Mapped[str | None]
    audio_seconds: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditEntry(Base):
    """Who did what to which row, when; never what was said in it."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_tenant", "tenant", "id"),
        Index("ix_audit_at", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    tenant: Mapped[str | None]
    """None where the caller was not known."""
    actor: Mapped[str]
    """The key's name and prefix, or whoever else acted."""
    key_id: Mapped[uuid.UUID | None]
    address: Mapped[str | None]
    action: Mapped[str]
    """Method and route, or what a process of ours did."""
    target: Mapped[str | None]
    status: Mapped[int | None]
    """Of the HTTP response."""
    count: Mapped[int] = mapped_column(server_default="1")
    """Refused requests of one address are counted, not written one by one."""


class Erasure(Base):
    """An erasure that was asked for and, once ``erased_at`` is set, its certificate. It names nobody."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index("ix_erasures_tenant", "tenant", "requested_at", "id"),
        Index("ix_erasures_subject", "subject"),
        Index("ix_erasures_part_of", "part_of", postgresql_where=text("part_of IS NOT NULL")),
        Index("ix_erasures_open", "what", postgresql_where=text("erased_at IS NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    """That of its job, where a person is erased."""
    tenant: Mapped[str]
    what: Mapped[str]
    """Value of ``ErasedKind``."""
    subject: Mapped[str]
    """The id of what is erased; of the events of many jobs, the tenant's name."""
    reason: Mapped[str]
    """Value of ``ErasureReason``."""
    requested_by: Mapped[str]
    """The key's name and prefix, or ``retention``."""
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    part_of: Mapped[uuid.UUID | None]
    """The erasure of a person for which a job is deleted; it waits for its parts."""
    counts: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    """How much has gone, by kind; none until it has. Lists of exports may still have to be written anew."""
    erased_at: Mapped[datetime | None]
    """When the last of it had gone."""
    found: Mapped[list[Json] | None] = mapped_column(JSONB(none_as_null=True))
    """Where a person was found, by ids alone."""
    dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    """Only looks for the person."""


class Withdrawal(Base):
    """Clips that were erased from an export of training data."""

    __tablename__ = "withdrawals"
    __table_args__ = (
        Index("ix_withdrawals_export_id", "export_id"),
        Index("ix_withdrawals_erasure_id", "erasure_id"),
        Index("ix_withdrawals_unlisted", "export_id", postgresql_where=text("listed_at IS NULL")),
        Index("ix_withdrawals_untold", "tenant", postgresql_where=text("told_in IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant: Mapped[str]
    export_id: Mapped[uuid.UUID]
    erasure_id: Mapped[uuid.UUID]
    clips: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Their paths in the export."""
    seconds: Mapped[float]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    listed_at: Mapped[datetime | None]
    """When the lists of the export were written without them."""
    told_in: Mapped[uuid.UUID | None]
    """The next export of the tenant, whose manifest names them."""
