"""Refine models are tuned and tried as draft models are"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

ROLE = postgresql.ENUM("draft", "refined", name="role", create_type=False)


def upgrade() -> None:
    # the defaults stay: in a rolling upgrade, workers of the version before write rows without these columns
    for table in ("finetunes", "model_versions", "signals"):
        op.add_column(table, sa.Column("role", ROLE, server_default="draft", nullable=False))
    op.add_column("model_versions", sa.Column("engine", sa.Text(), server_default="sensevoice", nullable=False))
    op.add_column("signals", sa.Column("loops", sa.Float(precision=53), nullable=True))
    op.drop_constraint(op.f("pk_signals"), "signals")
    op.create_primary_key(op.f("pk_signals"), "signals", ["job_id", "role"])
    op.drop_index("ix_signals_tenant", "signals")
    op.create_index("ix_signals_tenant", "signals", ["tenant", "role", "version_id", "at"])
    _one_of_each("tenant", "role")
    op.add_column("jobs", sa.Column("refined_version_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_jobs_refined_version_id_model_versions"),
        *("jobs", "model_versions", ["refined_version_id"], ["id"]),
        ondelete="SET NULL",
    )
    op.create_index(
        "ix_jobs_refined_version_id",
        *("jobs", ["refined_version_id"]),
        postgresql_where=sa.text("refined_version_id IS NOT NULL"),
    )


def _one_of_each(*columns: str) -> None:
    """One version serves, and one is tried, for each of these."""
    for state in ("serving", "canary"):
        name = f"uq_model_versions_{state}"
        op.drop_index(name, "model_versions")
        where = sa.text(f"state = '{state}'")
        op.create_index(name, "model_versions", columns, unique=True, postgresql_where=where)


def downgrade() -> None:
    # the older schema knows none but draft models
    for table in ("signals", "model_versions"):
        op.execute(f"DELETE FROM {table} WHERE role = 'refined'")  # noqa: S608
    op.execute("DELETE FROM jobs USING finetunes WHERE finetunes.job_id = jobs.id AND finetunes.role = 'refined'")
    op.drop_column("jobs", "refined_version_id")
    _one_of_each("tenant")
    op.drop_index("ix_signals_tenant", "signals")
    op.create_index("ix_signals_tenant", "signals", ["tenant", "version_id", "at"])
    op.drop_constraint(op.f("pk_signals"), "signals")
    op.create_primary_key(op.f("pk_signals"), "signals", ["job_id"])
    op.drop_column("signals", "loops")
    op.drop_column("model_versions", "engine")
    for table in ("finetunes", "model_versions", "signals"):
        op.drop_column(table, "role")
