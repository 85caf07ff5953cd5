"""Names and terms of a tenant."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class VocabularyTerm(Base):
    """A name or term that recordings of the tenant have; one that is not accepted is not proposed again."""

    __tablename__ = "vocabulary"
    __table_args__ = (UniqueConstraint("tenant", "term"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant: Mapped[str]
    term: Mapped[str]
    sounds_like: Mapped[list[str]] = mapped_column(ARRAY(Text))
    language: Mapped[str | None]
    """None for all."""
    accepted: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
