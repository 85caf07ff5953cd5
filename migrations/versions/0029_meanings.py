"""Steps that make finished transcripts findable by what they mean"""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # the table, of a type that the server may not have, is made where it is wanted (db.prepare)
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'index'")


def downgrade() -> None:
    op.execute("DELETE FROM steps WHERE CAST(kind AS text) = 'index'")
    op.execute("DROP TABLE IF EXISTS meanings")
