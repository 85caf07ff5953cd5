"""What keeps upkeep in step with tables that grow: rounds of the sweep, indexes, and when vacuum comes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
VACUUM_AFTER = {"steps": 50_000, "jobs": 20_000, "events": 100_000}
"""Dead rows. A part of the table, as by default, grows with all that is kept, and the work at hand does not."""
AUTOVACUUM = (
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_insert_scale_factor",
    "autovacuum_vacuum_insert_threshold",
    "autovacuum_analyze_scale_factor",
)


def upgrade() -> None:
    op.create_table(
        "rounds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("done_until", TIME, nullable=False),
        sa.Column("claim", sa.Uuid(), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rounds")),
    )
    op.execute("ALTER TABLE rounds ENABLE ROW LEVEL SECURITY")
    op.execute("INSERT INTO rounds (name, done_until) VALUES ('sweep', now())")
    op.create_index(
        "ix_jobs_completed_at", "jobs", ["completed_at"], postgresql_where=sa.text("completed_at IS NOT NULL")
    )
    op.create_index("ix_segments_chunk", "segments", ["job_id", "chunk"])
    op.create_index("ix_steps_dead", "steps", ["kind"], postgresql_where=sa.text("state = 'dead'"))
    for table, rows in VACUUM_AFTER.items():
        values = zip(AUTOVACUUM, (0, rows, 0, 10 * rows, 0.01), strict=True)
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in values)})")
    # a job's row changes with every event: room in its page keeps such changes out of the indexes
    op.execute("ALTER TABLE jobs SET (fillfactor = 70)")


def downgrade() -> None:
    op.execute("ALTER TABLE jobs RESET (fillfactor)")
    for table in VACUUM_AFTER:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(AUTOVACUUM)})")
    op.drop_index("ix_steps_dead", "steps")
    op.drop_index("ix_segments_chunk", "segments")
    op.drop_index("ix_jobs_completed_at", "jobs")
    op.drop_table("rounds")
