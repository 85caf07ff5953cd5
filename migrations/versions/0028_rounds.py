"""One table of rounds; an index of ready steps by their time"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

READY = sa.text("state = 'ready'")
OWN = "tenant = current_setting('longhand.tenant', true)"


def upgrade() -> None:
    # for what its administrators see of the queue
    op.execute(f"CREATE POLICY tenant ON lanes FOR SELECT USING ({OWN})")
    op.execute("INSERT INTO rounds (name, done_until, claim) SELECT 'healing', healed_at, checked FROM healing")
    op.drop_table("healing")
    # in a rolling upgrade, workers of the version before still look there
    op.execute(
        "CREATE VIEW healing AS SELECT CAST(1 AS smallint) AS id, done_until AS healed_at, claim AS checked "
        "FROM rounds WHERE name = 'healing'"
    )
    # first, as it takes the strongest lock
    op.drop_index("ix_steps_blocked", "steps")
    op.create_index("ix_steps_due", "steps", ["kind", "run_after"], postgresql_where=READY)


def downgrade() -> None:
    op.drop_index("ix_steps_due", "steps")
    op.create_index(
        "ix_steps_blocked",
        "steps",
        ["kind"],
        postgresql_where=sa.text("state = 'ready' AND run_after IS NULL"),
    )
    op.execute("DROP POLICY tenant ON lanes")
    op.execute("DROP VIEW healing")
    op.create_table(
        "healing",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("healed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked", sa.Uuid(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_healing_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_healing")),
    )
    op.execute("ALTER TABLE healing ENABLE ROW LEVEL SECURITY")
    op.execute("INSERT INTO healing SELECT 1, done_until, claim FROM rounds WHERE name = 'healing'")
    op.execute("DELETE FROM rounds WHERE name = 'healing'")
