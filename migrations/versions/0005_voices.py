"""Enrolled voices, and the jobs that enrol them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATUS = postgresql.ENUM("pending", "ready", "failed", name="voice_status", create_type=False)


def upgrade() -> None:
    STATUS.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "voices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", STATUS, server_default="pending", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("vector", postgresql.ARRAY(sa.REAL()), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'ready') = (vector IS NOT NULL)", name=op.f("ck_voices_ready_has_vector")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voices")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_voices_tenant_name")),
    )
    op.add_column("jobs", sa.Column("voice_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_jobs_voice_id_voices"), "jobs", "voices", ["voice_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index(
        op.f("ix_jobs_voice_id"), "jobs", ["voice_id"], postgresql_where=sa.text("voice_id IS NOT NULL")
    )
    op.create_index(
        op.f("ix_speakers_voice_id"), "speakers", ["voice_id"], postgresql_where=sa.text("voice_id IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_speakers_voice_id"), table_name="speakers")
    op.drop_column("jobs", "voice_id")
    op.drop_table("voices")
    STATUS.drop(op.get_bind())
