"""Exports of training data, fine-tunings, and versions of the draft model"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PURPOSE = postgresql.ENUM("recording", "export", "finetune", name="job_purpose", create_type=False)
SPLIT = postgresql.ENUM("train", "val", name="split", create_type=False)
STATE = postgresql.ENUM(
    *("candidate", "canary", "serving", "retired", "rejected", "rolled_back"),
    name="version_state",
    create_type=False,
)
TYPES = (PURPOSE, SPLIT, STATE)


def upgrade() -> None:
    for type_ in TYPES:
        type_.create(op.get_bind(), checkfirst=True)
    for kind in ("export", "finetune"):
        op.execute(f"ALTER TYPE step_kind ADD VALUE IF NOT EXISTS '{kind}'")
    op.add_column("voices", sa.Column("training", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("jobs", sa.Column("purpose", PURPOSE, server_default="recording", nullable=False))
    op.add_column("jobs", sa.Column("corrected_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("version_id", sa.Uuid(), nullable=True))
    op.drop_constraint(op.f("ck_jobs_bytes_positive"), "jobs")
    op.drop_constraint(op.f("ck_jobs_completed_has_transcript"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_bytes_positive"), "jobs", "(bytes > 0) = (purpose = 'recording')")
    op.create_check_constraint(
        op.f("ck_jobs_completed_has_transcript"),
        "jobs",
        "(status = 'completed' AND purpose = 'recording') <= (transcript_prefix IS NOT NULL)",
    )
    op.create_table(
        "exports",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("filters", postgresql.JSONB(), nullable=False),
        sa.Column("cleaning", postgresql.JSONB(), nullable=False),
        sa.Column("selected", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("summary", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint("until > since", name=op.f("ck_exports_window")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_exports_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_exports")),
    )
    op.create_table(
        "samples",
        sa.Column("export_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("segment", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("candidate", postgresql.JSONB(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("speaker", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("human", sa.Boolean(), nullable=False),
        sa.Column("person", sa.Integer(), nullable=True),
        sa.Column("split", SPLIT, nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["export_id"], ["exports.job_id"], name=op.f("fk_samples_export_id_exports"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_samples_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("export_id", "job_id", "segment", name=op.f("pk_samples")),
    )
    op.create_table(
        "finetunes",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("exports", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("options", postgresql.JSONB(), nullable=False),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_finetunes_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_finetunes")),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", STATE, server_default="candidate", nullable=False),
        sa.Column("stage", sa.Integer(), server_default="0", nullable=False),
        sa.Column("staged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finetune_id", sa.Uuid(), nullable=True),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(), nullable=False),
        sa.Column("files", postgresql.JSONB(), nullable=False),
        sa.CheckConstraint("stage BETWEEN 0 AND 100", name=op.f("ck_model_versions_stage")),
        sa.ForeignKeyConstraint(
            ["finetune_id"],
            ["finetunes.job_id"],
            name=op.f("fk_model_versions_finetune_id_finetunes"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("tenant", "number", name=op.f("uq_model_versions_tenant_number")),
    )
    op.create_table(
        "signals",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("agreement", sa.Float(precision=53), nullable=True),
        sa.Column("rejected", sa.Float(precision=53), nullable=True),
        sa.Column("rtf", sa.Float(precision=53), nullable=True),
        sa.Column("errors", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_signals_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_signals_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_signals")),
    )
    op.create_foreign_key(
        op.f("fk_jobs_version_id_model_versions"),
        *("jobs", "model_versions", ["version_id"], ["id"]),
        ondelete="SET NULL",
    )
    _indexes()


def _indexes() -> None:
    op.create_index(
        "ix_jobs_settled",
        "jobs",
        ["tenant", sa.text("coalesce(corrected_at, completed_at)")],
        postgresql_where=sa.text("status = 'completed' AND purpose = 'recording'"),
    )
    op.create_index(
        "ix_jobs_version_id", "jobs", ["version_id"], postgresql_where=sa.text("version_id IS NOT NULL")
    )
    accepted = sa.text("reason IS NULL")
    op.create_index("ix_exports_tenant", "exports", ["tenant", "date"])
    op.create_index("ix_samples_job_id", "samples", ["job_id"])
    op.create_index("ix_samples_fingerprint", "samples", ["fingerprint"], postgresql_where=accepted)
    op.create_index("ix_samples_text_hash", "samples", ["export_id", "text_hash"], postgresql_where=accepted)
    op.create_index("ix_finetunes_tenant", "finetunes", ["tenant"])
    op.create_index("ix_signals_tenant", "signals", ["tenant", "version_id", "at"])
    for state in ("serving", "canary"):
        op.create_index(
            f"uq_model_versions_{state}",
            *("model_versions", ["tenant"]),
            unique=True,
            postgresql_where=sa.text(f"state = '{state}'"),
        )


def downgrade() -> None:
    # jobs that the older schema has no words for
    op.execute("DELETE FROM jobs WHERE purpose <> 'recording'")
    op.execute("DELETE FROM steps WHERE kind IN ('export', 'finetune')")
    op.drop_column("jobs", "version_id")
    for table in ("signals", "model_versions", "finetunes", "samples", "exports"):
        op.drop_table(table)
    op.drop_constraint(op.f("ck_jobs_bytes_positive"), "jobs")
    op.drop_constraint(op.f("ck_jobs_completed_has_transcript"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_bytes_positive"), "jobs", "bytes > 0")
    op.create_check_constraint(
        op.f("ck_jobs_completed_has_transcript"),
        "jobs",
        "(status = 'completed') <= (transcript_prefix IS NOT NULL)",
    )
    op.drop_index("ix_jobs_settled", table_name="jobs")
    op.drop_column("jobs", "corrected_at")
    op.drop_column("jobs", "purpose")
    op.drop_column("voices", "training")
    for type_ in reversed(TYPES):
        type_.drop(op.get_bind())
