"""Resumable uploads, until a job has taken up their content."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Upload(Base):
    """A recording that comes piece by piece. Its id is that of the job that is made of it."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("bytes > 0", name="bytes_positive"),
        CheckConstraint("received BETWEEN 0 AND bytes", name="received"),
        CheckConstraint("completed_at IS NULL OR received = bytes", name="completed_has_all"),
        CheckConstraint("used_at IS NULL OR completed_at IS NOT NULL", name="used_is_completed"),
        Index("ix_uploads_open", "tenant", postgresql_where=text("used_at IS NULL")),
        Index("ix_uploads_expires_at", "expires_at", postgresql_where=text("used_at IS NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the whole. They count as stored from the beginning."""
    sha256: Mapped[str | None]
    """Of the whole, where the client said it."""
    metadata_line: Mapped[str | None]
    """``Upload-Metadata`` as a tus client sent it, which it is sent back."""
    in_parts: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether the client writes the parts to storage itself."""
    concat: Mapped[str | None]
    """``Upload-Concat`` of a tus client: ``partial``, or ``final;`` and what it was concatenated from."""
    received: Mapped[int] = mapped_column(BigInteger, server_default="0")
    writer: Mapped[uuid.UUID | None]
    """The request that may append: the latest that began to."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    """When all was there, and the hash was right."""
    used_at: Mapped[datetime | None]
    """When a job was made of it."""

    @property
    def is_partial(self) -> bool:
        """Whether it is to be concatenated with others."""
        return self.concat == "partial"


class UploadPart(Base):
    """An object that holds a piece of an upload. Those of an upload written in parts are planned beforehand."""

    __tablename__ = "upload_parts"
    __table_args__ = (
        CheckConstraint("start >= 0 AND bytes > 0", name="span"),
        UniqueConstraint("upload_id", "start"),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    start: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
