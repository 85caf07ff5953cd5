"""How people keep order among recordings, and whom they show one to."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


class Collection(Base):
    """Recordings that belong together. One may be in several."""

    __tablename__ = "collections"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CollectionJob(Base):
    """A recording in a collection."""

    __tablename__ = "collection_jobs"
    __table_args__ = (Index("ix_collection_jobs_job_id", "job_id"),)

    collection_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True
    )
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


class SavedSearch(Base):
    """A search that is asked again and again."""

    __tablename__ = "saved_searches"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    query: Mapped[Json]
    """The parameters of ``GET /v1/search``."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Link(Base):
    """A credential for the transcript of one job, to be handed on. It is known by its SHA-256."""

    __tablename__ = "links"
    __table_args__ = (Index("ix_links_job_id", "job_id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    audio: Mapped[bool]
    """Whether it opens the recording, too."""
    created_by: Mapped[str]
    """The key's name and prefix."""
    key_id: Mapped[uuid.UUID | None]
    """The key that made it, with which it ends."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
