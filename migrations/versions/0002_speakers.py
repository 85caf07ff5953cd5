"""Speakers, their turns, and the steps that find them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'diarize' BEFORE 'align'")
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'embed' BEFORE 'align'")
    op.execute("ALTER TYPE event_type ADD VALUE IF NOT EXISTS 'speakers.assigned' BEFORE 'job.completed'")
    op.add_column("jobs", sa.Column("diarize", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("jobs", sa.Column("diarized", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "jobs", sa.Column("speakers_known", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_table(
        "speakers",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("voice_id", sa.Uuid(), nullable=True),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("vector", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_speakers_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "label", name=op.f("pk_speakers")),
    )
    op.create_table(
        "turns",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("start", sa.Float(precision=53), nullable=False),
        sa.Column("end", sa.Float(precision=53), nullable=False),
        sa.Column("speaker", sa.Text(), nullable=False),
        sa.CheckConstraint('"end" > "start" AND "start" >= 0', name=op.f("ck_turns_span")),
        sa.ForeignKeyConstraint(
            ["job_id", "speaker"],
            ["speakers.job_id", "speakers.label"],
            name=op.f("fk_turns_job_id_speaker_speakers"),
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "index", name=op.f("pk_turns")),
    )


def downgrade() -> None:
    op.drop_table("turns")
    op.drop_table("speakers")
    for column in ("speakers_known", "diarized", "diarize"):
        op.drop_column("jobs", column)
    # Postgres cannot take a value out of an enum: the types keep them, and the older code never writes them
    op.execute("DELETE FROM steps WHERE kind IN ('diarize', 'embed')")
    op.execute("DELETE FROM events WHERE type = 'speakers.assigned'")
