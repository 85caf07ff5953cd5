"""Steps that make finished transcripts findable by what they mean; an index of the speakers that people type in"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # the table, of a type that the server may not have, is made where it is wanted (db.prepare)
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'index'")
    op.create_index(
        "ix_passages_typed_speaker",
        "passages",
        ["speaker"],
        postgresql_where=sa.text("left(speaker, 8) <> 'SPEAKER_'"),
    )


def downgrade() -> None:
    op.execute("DELETE FROM steps WHERE CAST(kind AS text) = 'index'")
    op.drop_index("ix_passages_typed_speaker", "passages")
    op.execute("DROP TABLE IF EXISTS meanings")
