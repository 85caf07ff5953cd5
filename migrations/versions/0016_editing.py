"""Segments that people divide and join, speakers that they name; waveforms and playable recordings"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SPEAKER_ALONE = """
    UPDATE segments SET
        source = CAST(machine->>'source' AS segment_source),
        confidence = CAST(machine->>'confidence' AS double precision)
    WHERE source = 'human' AND machine->>'text' = text AND machine->>'source' IS NOT NULL
"""
"""Who had only been given another speaker was not corrected in its words."""


def upgrade() -> None:
    for event in ("segments.replaced", "speakers.changed"):
        op.execute(f"ALTER TYPE event_type ADD VALUE IF NOT EXISTS '{event}' BEFORE 'job.completed'")
    op.add_column("jobs", sa.Column("peaks_key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("rendition_key", sa.Text(), nullable=True))
    op.add_column("segments", sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(SPEAKER_ALONE)
    _index_named("machine IS NOT NULL")


def _index_named(condition: str) -> None:
    """Segments with names that people typed in."""
    op.drop_index("ix_segments_named", "segments")
    op.create_index("ix_segments_named", "segments", ["speaker"], postgresql_where=sa.text(condition))


def downgrade() -> None:
    _index_named("source = 'human'")
    op.execute("UPDATE segments SET source = 'human' WHERE machine IS NOT NULL")
    op.drop_column("segments", "version")
    op.drop_column("jobs", "rendition_key")
    op.drop_column("jobs", "peaks_key")
