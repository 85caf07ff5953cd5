"""Live sessions, until their recording is put together."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


class LiveSession(Base):
    """A job whose audio is still coming. What has come is in its pieces."""

    __tablename__ = "live_sessions"
    __table_args__ = (
        CheckConstraint("received >= 0", name="received"),
        UniqueConstraint("tenant", "flow_id"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant: Mapped[str]
    flow_id: Mapped[str | None]
    """What the client calls it; None once another one has this name."""
    writer: Mapped[uuid.UUID]
    """The connection that may add to it: the latest that took it up."""
    received: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Samples at 16 kHz that are stored."""


class LivePiece(Base):
    """An object that holds a part of the audio, as FLAC."""

    __tablename__ = "live_pieces"
    __table_args__ = (
        CheckConstraint("start >= 0 AND samples > 0", name="span"),
        UniqueConstraint("job_id", "start"),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("live_sessions.job_id", ondelete="CASCADE"))
    start: Mapped[int] = mapped_column(BigInteger)
    samples: Mapped[int] = mapped_column(BigInteger)


class LiveFinal(Base):
    """What one utterance was, as the client is told: a connection that goes on begins with those it lacks."""

    __tablename__ = "live_finals"
    __table_args__ = (CheckConstraint("seq > 0", name="seq"),)

    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("live_sessions.job_id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int] = mapped_column(BigInteger)
    """Behind its last sample."""
    content: Mapped[Json]
