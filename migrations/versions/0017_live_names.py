"""Live sessions that nobody can go on with give up their name"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("live_sessions", "flow_id", nullable=True)


def downgrade() -> None:
    op.execute("UPDATE live_sessions SET flow_id = CAST(job_id AS text) WHERE flow_id IS NULL")
    op.alter_column("live_sessions", "flow_id", nullable=False)
