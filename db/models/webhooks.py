"""Webhooks: where a tenant's events are sent, the secrets that sign them, and each delivery."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json
from db.models.enums import DeliveryState


class Webhook(Base):
    """A tenant's subscription: events of these types of all its jobs go to this address."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"),
        Index("ix_webhooks_tenant", "tenant", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant: Mapped[str]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Values of ``WebhookEvent``; a newer version may know others."""
    description: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    """``request``, ``gone`` (the receiver answered 410) or ``failing``."""
    failing_since: Mapped[datetime | None]
    """The first failed attempt since the last that succeeded."""


class WebhookSecret(Base):
    """A secret that signs what is sent to a webhook; without one, what is sent to the addresses that jobs name.

    There are at most two of each: the newest, and the one before it until it ends.
    """

    __tablename__ = "webhook_secrets"
    __table_args__ = (
        Index(
            "ix_webhook_secrets_current",
            "tenant",
            "webhook_id",
            unique=True,
            postgresql_where=text("ends_at IS NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_webhook_secrets_webhook_id", "webhook_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant: Mapped[str]
    webhook_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    """Sealed, where there is a key for it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ends_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """An event on its way to one receiver. Its id is the ``webhook-id`` that the receiver knows it by.

    It refers to no job by a foreign key: that a job was cancelled is told though it is deleted.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("(webhook_id IS NULL) = (url IS NOT NULL)", name="one_address"),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended"),
        Index("ix_webhook_deliveries_due", "next_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_webhook_deliveries_endpoint", "endpoint", "next_at", postgresql_where=text("state = 'waiting'")),
        Index(
            "ix_webhook_deliveries_order",
            "job_id",
            "endpoint",
            "seq",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index(
            "ix_webhook_deliveries_leased",
            "tenant",
            "endpoint",
            postgresql_where=text("lease_until IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_job", "job_id", "created_at", "id"),
        Index("ix_webhook_deliveries_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant: Mapped[str]
    webhook_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    url: Mapped[str | None]
    """The address that the job itself named; None where the webhook's is meant."""
    endpoint: Mapped[uuid.UUID]
    """The webhook, or a number made of tenant, scheme, host and port: few requests go to one endpoint at once."""
    job_id: Mapped[uuid.UUID | None]
    """None for a test."""
    seq: Mapped[int | None] = mapped_column(BigInteger)
    """Number of the job's event, by which deliveries of a job are in order."""
    type: Mapped[str]
    body: Mapped[str]
    """What is sent, to the byte, at every attempt."""
    state: Mapped[DeliveryState] = mapped_column(server_default=DeliveryState.WAITING.value)
    attempt: Mapped[int] = mapped_column(server_default="0")
    """Attempts begun since the event, or since somebody asked for another delivery."""
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Earliest time of the next claim. While one holds, the end of its lease: a dead worker needs no healing."""
    fence: Mapped[int | None] = mapped_column(BigInteger)
    lease_until: Mapped[datetime | None]
    attempts: Mapped[list[Json]] = mapped_column(server_default=text("'[]'"))
    """The last attempts: ``at``, ``status``, ``error``, ``seconds`` and ``answer``."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
