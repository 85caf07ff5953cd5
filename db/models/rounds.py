"""Rounds: periodic work that one process at a time does."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Round(Base):
    """How far periodic work has come, and who is at it."""

    __tablename__ = "rounds"

    name: Mapped[str] = mapped_column(primary_key=True)
    done_until: Mapped[datetime]
    """What happened before is dealt with."""
    claim: Mapped[uuid.UUID | None]
    claimed_until: Mapped[datetime | None]
