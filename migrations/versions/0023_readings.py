"""What language models make of transcripts: summaries, answers, translations; templates of tenants"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KINDS = ("summary", "answer", "translation")
STEPS = ("summarise", "answer", "translate")
STATES = ("queued", "completed", "failed")
TENANT = "current_setting('longhand.tenant', true)"
POLICIES = {
    "readings": "EXISTS (SELECT FROM jobs WHERE jobs.id = readings.job_id)",
    "templates": f"tenant = {TENANT}",
}


def upgrade() -> None:
    for step in STEPS:
        op.execute(f"ALTER TYPE step_kind ADD VALUE IF NOT EXISTS '{step}'")
    for kind in KINDS:
        for state in STATES:
            op.execute(f"ALTER TYPE event_type ADD VALUE IF NOT EXISTS '{kind}.{state}'")
    op.create_table(
        "readings",
        sa.Column("job_id", sa.Uuid(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("kind", postgresql.ENUM(*KINDS, name="reading_kind"), nullable=False),
        sa.Column(
            "status", postgresql.ENUM(*STATES, name="reading_status"), nullable=False, server_default="queued"
        ),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("content", postgresql.JSONB()),
        sa.Column("corrected_at", TIME),
        sa.Column("model", sa.Text()),
        sa.Column("tokens", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("memo", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.CheckConstraint(
            "(status = 'completed') = (content IS NOT NULL)", name=op.f("ck_readings_completed_has_content")
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_readings_failed_has_error")
        ),
    )
    op.create_table(
        "templates",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("parts", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("sentences", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    for table, condition in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


def downgrade() -> None:
    op.execute("DELETE FROM steps WHERE CAST(kind AS text) IN ('summarise', 'answer', 'translate')")
    for table in POLICIES:
        op.drop_table(table)
    for name in ("reading_kind", "reading_status"):
        op.execute(f"DROP TYPE {name}")
