"""Corrected segments keep the original; chunks may belong to one channel"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TYPE event_type ADD VALUE IF NOT EXISTS 'segment.corrected' BEFORE 'job.completed'")
    op.add_column("chunks", sa.Column("channel", sa.Integer(), nullable=True))
    op.add_column("segments", sa.Column("machine", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("segments", "machine")
    op.drop_column("chunks", "channel")
    op.execute("DELETE FROM events WHERE type = 'segment.corrected'")
