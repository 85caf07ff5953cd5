"""Vocabularies of tenants"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TENANT = "current_setting('longhand.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "vocabulary",
        sa.Column("id", sa.Uuid(), primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("sounds_like", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("language", sa.Text()),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("tenant", "term", name=op.f("uq_vocabulary_tenant_term")),
    )
    op.execute("ALTER TABLE vocabulary ENABLE ROW LEVEL SECURITY")
    own = f"tenant = {TENANT}"
    op.execute(f"CREATE POLICY tenant ON vocabulary USING ({own}) WITH CHECK ({own})")


def downgrade() -> None:
    op.drop_table("vocabulary")
