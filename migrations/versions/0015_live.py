"""Live sessions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# what the role sees of the parent is scoped in its turn
CHILD = "EXISTS (SELECT FROM live_sessions WHERE live_sessions.job_id = {table}.job_id)"
POLICIES = {
    "live_sessions": "tenant = current_setting('longhand.tenant', true)",
    "live_pieces": CHILD.format(table="live_pieces"),
    "live_finals": CHILD.format(table="live_finals"),
}


def upgrade() -> None:
    op.create_table(
        "live_sessions",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("flow_id", sa.Text(), nullable=False),
        sa.Column("writer", sa.Uuid(), nullable=False),
        sa.Column("received", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("received >= 0", name=op.f("ck_live_sessions_received")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_live_sessions_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_live_sessions")),
        sa.UniqueConstraint("tenant", "flow_id", name=op.f("uq_live_sessions_tenant_flow_id")),
    )
    op.create_table(
        "live_pieces",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("start >= 0 AND samples > 0", name=op.f("ck_live_pieces_span")),
        _session_of("live_pieces"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_live_pieces")),
        sa.UniqueConstraint("job_id", "start", name=op.f("uq_live_pieces_job_id_start")),
    )
    op.create_table(
        "live_finals",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.CheckConstraint("seq > 0", name=op.f("ck_live_finals_seq")),
        _session_of("live_finals"),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_live_finals")),
    )
    for table, condition in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


def _session_of(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["job_id"], ["live_sessions.job_id"], name=op.f(f"fk_{table}_job_id_live_sessions"), ondelete="CASCADE"
    )


def downgrade() -> None:
    for table in ("live_finals", "live_pieces", "live_sessions"):
        op.drop_table(table)
