"""Samples of people who may speak in a recording"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# what the role sees of the jobs is scoped in its turn
JOB = "EXISTS (SELECT FROM jobs WHERE jobs.id = known_speakers.job_id)"


def upgrade() -> None:
    op.create_table(
        "known_speakers",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_known_speakers_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_known_speakers")),
    )
    op.execute("ALTER TABLE known_speakers ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON known_speakers USING ({JOB}) WITH CHECK ({JOB})")


def downgrade() -> None:
    op.drop_table("known_speakers")
