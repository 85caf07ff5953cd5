"""A job keeps the context of the trace that it belongs to"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("trace", sa.Text()))


def downgrade() -> None:
    op.drop_column("jobs", "trace")
