"""Erasures as requests and certificates, clips withdrawn from exports, events that are not kept"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TENANT = "tenant = current_setting('longhand.tenant', true)"


def upgrade() -> None:
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'erase'")
    op.execute("ALTER TYPE job_purpose ADD VALUE IF NOT EXISTS 'erasure'")
    op.execute("ALTER TYPE event_type ADD VALUE IF NOT EXISTS 'job.erased'")
    op.add_column("jobs", sa.Column("events_erased_at", TIME, nullable=True))

    op.drop_index("ix_erasures_tenant", "erasures")
    op.alter_column("erasures", "at", new_column_name="requested_at")
    op.alter_column("erasures", "counts", nullable=True)
    # nothing has written certificates before
    op.add_column("erasures", sa.Column("what", sa.Text(), nullable=False, server_default="job"))
    op.add_column("erasures", sa.Column("requested_by", sa.Text(), nullable=False, server_default=""))
    op.alter_column("erasures", "what", server_default=None)
    op.alter_column("erasures", "requested_by", server_default=None)
    op.add_column("erasures", sa.Column("part_of", sa.Uuid(), nullable=True))
    op.add_column("erasures", sa.Column("erased_at", TIME, nullable=True))
    op.add_column("erasures", sa.Column("found", postgresql.JSONB(), nullable=True))
    op.add_column("erasures", sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("ix_erasures_tenant", "erasures", ["tenant", "requested_at", "id"])
    op.create_index("ix_erasures_subject", "erasures", ["subject"])
    op.create_index(
        "ix_erasures_part_of", "erasures", ["part_of"], postgresql_where=sa.text("part_of IS NOT NULL")
    )
    op.create_index("ix_erasures_open", "erasures", ["what"], postgresql_where=sa.text("erased_at IS NULL"))

    op.create_index("ix_segments_named", "segments", ["speaker"], postgresql_where=sa.text("source = 'human'"))
    op.create_index("ix_speakers_name", "speakers", ["name"], postgresql_where=sa.text("name IS NOT NULL"))

    op.create_table(
        "withdrawals",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("export_id", sa.Uuid(), nullable=False),
        sa.Column("erasure_id", sa.Uuid(), nullable=False),
        sa.Column("clips", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("listed_at", TIME, nullable=True),
        sa.Column("told_in", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawals")),
    )
    op.create_index("ix_withdrawals_export_id", "withdrawals", ["export_id"])
    op.create_index("ix_withdrawals_erasure_id", "withdrawals", ["erasure_id"])
    op.create_index(
        "ix_withdrawals_unlisted", "withdrawals", ["export_id"], postgresql_where=sa.text("listed_at IS NULL")
    )
    op.create_index(
        "ix_withdrawals_untold", "withdrawals", ["tenant"], postgresql_where=sa.text("told_in IS NULL")
    )
    op.execute("ALTER TABLE withdrawals ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON withdrawals USING ({TENANT}) WITH CHECK ({TENANT})")


def downgrade() -> None:
    op.drop_table("withdrawals")
    op.drop_index("ix_segments_named", "segments")
    op.drop_index("ix_speakers_name", "speakers")
    for index in ("ix_erasures_open", "ix_erasures_part_of", "ix_erasures_subject", "ix_erasures_tenant"):
        op.drop_index(index, "erasures")
    for column in ("dry_run", "found", "erased_at", "part_of", "requested_by", "what"):
        op.drop_column("erasures", column)
    op.execute("UPDATE erasures SET counts = '{}' WHERE counts IS NULL")
    op.alter_column("erasures", "counts", nullable=False)
    op.alter_column("erasures", "requested_at", new_column_name="at")
    op.create_index("ix_erasures_tenant", "erasures", ["tenant", "at"])
    op.drop_column("jobs", "events_erased_at")
