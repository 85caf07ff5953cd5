"""What search finds."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Index, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base

FINE, COARSE = 15, 19
"""An era is 2 to the power of this many passages that were written one after the other."""

ERAS = f"ARRAY[number >> {FINE}, -1 - (number >> {COARSE})]"
"""A passage's fine era, and the coarse one, which is told by being negative."""
LANGUAGES = "ARRAY[language]"

TYPED = "left(speaker, 8) <> 'SPEAKER_'"
"""Whether somebody typed in who speaks: few segments are so. All others have labels that machines give."""


class Passage(Base):
    """A segment as search finds it: the finals of a chunk, or its drafts until there are any.

    Tenants search through the view ``own_passages`` (``db.search.find``).
    """

    __tablename__ = "passages"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "chunk"], ["chunks.job_id", "chunks.index"], ondelete="CASCADE"),
        Index(
            "ix_passages_terms",
            "terms",
            text(f"({ERAS})"),
            text(f"({LANGUAGES})"),
            postgresql_using="gin",
            # every search reads through what is pending
            postgresql_with={"gin_pending_list_limit": 512},
        ),
        Index("ix_passages_chunk", "job_id", "chunk"),
        Index("ix_passages_typed_speaker", "speaker", postgresql_where=text(TYPED)),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    chunk: Mapped[int]
    tenant: Mapped[str]
    recorded_at: Mapped[datetime]
    """When its job was made."""
    start: Mapped[float]
    end: Mapped[float]
    text: Mapped[str]
    speaker: Mapped[str | None]
    language: Mapped[str | None]
    provisional: Mapped[bool]
    number: Mapped[int] = mapped_column(BigInteger, Identity())
    """In the order of writing."""
    terms: Mapped[str] = mapped_column(TSVECTOR)
    """The lexemes of the text with the tenant's mark (``db.search.lexemes``)."""
