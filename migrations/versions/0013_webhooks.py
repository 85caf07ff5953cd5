"""Webhooks: subscriptions, the secrets that sign them, and deliveries"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
RANDOM_ID = sa.text("gen_random_uuid()")
STATES = ("waiting", "delivered", "failed")
TENANT = "current_setting('longhand.tenant', true)"
WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), primary_key=True, server_default=RANDOM_ID),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("disabled_at", TIME),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("failing_since", TIME),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name=op.f("ck_webhooks_disabled_has_reason")
        ),
    )
    op.create_index("ix_webhooks_tenant", "webhooks", ["tenant", "created_at", "id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.Uuid(), primary_key=True, server_default=RANDOM_ID),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), sa.ForeignKey("webhooks.id", ondelete="CASCADE")),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ends_at", TIME),
    )
    op.create_index(
        "ix_webhook_secrets_current",
        "webhook_secrets",
        ["tenant", "webhook_id"],
        unique=True,
        postgresql_where=sa.text("ends_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("ix_webhook_secrets_webhook_id", "webhook_secrets", ["webhook_id"])
    _create_deliveries()
    for table in ("webhooks", "webhook_secrets", "webhook_deliveries"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        own = f"tenant = {TENANT}"
        op.execute(f"CREATE POLICY tenant ON {table} USING ({own}) WITH CHECK ({own})")


def _create_deliveries() -> None:
    table = "webhook_deliveries"
    op.create_table(
        table,
        sa.Column("id", sa.Uuid(), primary_key=True, server_default=RANDOM_ID),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), sa.ForeignKey("webhooks.id", ondelete="CASCADE")),
        sa.Column("url", sa.Text()),
        sa.Column("endpoint", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid()),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column(
            "state", postgresql.ENUM(*STATES, name="delivery_state"), nullable=False, server_default="waiting"
        ),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("fence", sa.BigInteger()),
        sa.Column("lease_until", TIME),
        sa.Column("attempts", postgresql.JSONB(), nullable=False, server_default=sa.text("'[]'")),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint(
            "(webhook_id IS NULL) = (url IS NOT NULL)", name=op.f("ck_webhook_deliveries_one_address")
        ),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name=op.f("ck_webhook_deliveries_ended")),
    )
    op.create_index("ix_webhook_deliveries_due", table, ["next_at"], postgresql_where=WAITING)
    op.create_index("ix_webhook_deliveries_endpoint", table, ["endpoint", "next_at"], postgresql_where=WAITING)
    op.create_index("ix_webhook_deliveries_order", table, ["job_id", "endpoint", "seq"], postgresql_where=WAITING)
    leased = sa.text("lease_until IS NOT NULL")
    op.create_index("ix_webhook_deliveries_leased", table, ["tenant", "endpoint"], postgresql_where=leased)
    op.create_index("ix_webhook_deliveries_webhook", table, ["webhook_id", "created_at", "id"])
    op.create_index("ix_webhook_deliveries_job", table, ["job_id", "created_at", "id"])
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index("ix_webhook_deliveries_ended_at", table, ["ended_at"], postgresql_where=ended)


def downgrade() -> None:
    for table in ("webhook_deliveries", "webhook_secrets", "webhooks"):
        op.drop_table(table)
    op.execute("DROP TYPE delivery_state")
