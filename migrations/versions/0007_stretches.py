"""Chunks leave out long pauses: the stretches of the recording that each consists of"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chunks", sa.Column("stretches", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("chunks", "stretches")
