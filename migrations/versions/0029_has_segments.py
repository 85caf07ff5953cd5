"""Whether a first segment was told is kept: how long that took is measured once, whatever came with it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("has_segments", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    # what is under way has mostly told some, whose time is not that of its next one; what is complete tells none
    op.execute("UPDATE jobs SET has_segments = true WHERE status <> 'completed' AND (drafted > 0 OR final > 0)")


def downgrade() -> None:
    op.drop_column("jobs", "has_segments")
