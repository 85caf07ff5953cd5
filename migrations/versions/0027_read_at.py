"""Events of readings are kept as long as others"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("read_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE jobs SET read_at = told.at FROM (SELECT job_id, max(coalesce(ended_at, created_at)) AS at "
        "FROM readings GROUP BY job_id) AS told WHERE told.job_id = jobs.id"
    )


def downgrade() -> None:
    op.drop_column("jobs", "read_at")
