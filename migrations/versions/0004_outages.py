"""Steps count outages separately from attempts, and may be blocked by the previous chunk; jobs can be retried"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TYPE event_type ADD VALUE IF NOT EXISTS 'job.retried'")
    op.add_column("steps", sa.Column("outages", sa.Integer(), server_default="0", nullable=False))
    op.alter_column("steps", "run_after", nullable=True)


def downgrade() -> None:
    op.execute("UPDATE steps SET run_after = now() WHERE run_after IS NULL")
    op.alter_column("steps", "run_after", nullable=False)
    op.drop_column("steps", "outages")
    op.execute("DELETE FROM events WHERE type = 'job.retried'")
