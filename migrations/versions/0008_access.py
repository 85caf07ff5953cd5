"""Keys, tenants, usage, the audit log and erasures"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PRIORITY = postgresql.ENUM("high", "normal", "low", name="priority", create_type=False)
TIME = sa.DateTime(timezone=True)
REVISION = sa.text("nextval('access_revision')")
LIMITS = (
    *("audio_hours_month", "stored_bytes", "jobs_at_once", "requests_per_minute", "event_streams"),
    *("uploads_at_once", "steps_at_once", "retain_audio_days", "retain_transcript_days", "retain_events_days"),
)

COUNT_STORED_BYTES = """
    CREATE FUNCTION count_stored_bytes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        change bigint := 0;
    BEGIN
        IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL AND NEW.audio_erased_at IS NULL THEN
            change := NEW.bytes;
        END IF;
        IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL AND OLD.audio_erased_at IS NULL THEN
            change := change - OLD.bytes;
        END IF;
        IF change <> 0 THEN
            INSERT INTO stored_bytes (tenant, bytes)
            VALUES (CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END, change);
        END IF;
        RETURN NULL;
    END $$
"""
"""Changes are added, not summed up, so that no two transactions of a tenant wait for each other."""


REFUSE_CHANGES = """
    CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
"""

APPEND_ONLY = """
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('longhand.audit_upkeep', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'rows of the audit log are never changed' USING ERRCODE = 'insufficient_privilege';
END
$$
"""


def upgrade() -> None:
    op.execute("ALTER TYPE step_kind ADD VALUE IF NOT EXISTS 'fetch' BEFORE 'ingest'")
    op.execute("CREATE SEQUENCE access_revision")
    op.add_column("jobs", sa.Column("source_url", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("source_digest", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_jobs_bytes_positive"), "jobs")
    op.create_check_constraint(
        op.f("ck_jobs_bytes_positive"),
        "jobs",
        "(bytes > 0) = (purpose = 'recording') OR (bytes = 0 AND source_url IS NOT NULL)",
    )
    op.add_column("jobs", sa.Column("key_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("audio_erased_at", TIME, nullable=True))
    op.create_index(
        "ix_jobs_at_work",
        "jobs",
        ["tenant"],
        postgresql_where=sa.text("status IN ('queued', 'processing') AND deleted_at IS NULL"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("max_priority", PRIORITY, server_default="normal", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default=REVISION, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant", "created_at"])
    op.create_index("ix_api_keys_revision", "api_keys", ["revision"])
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("audio_hours_month", sa.Float(precision=53), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), nullable=True)
            for name in LIMITS
            if name.endswith(("_at_once", "_minute", "_streams"))
        ),
        *(sa.Column(name, sa.Float(precision=53), nullable=True) for name in LIMITS if name.endswith("_days")),
        sa.Column("redact", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("keep_original", sa.Boolean(), nullable=True),
        sa.Column("updated_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=REVISION, nullable=False),
        sa.CheckConstraint(f"least({', '.join(LIMITS)}) >= 0", name=op.f("ck_tenants_not_negative")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_index(
        "ix_tenants_shares", "tenants", ["name"], postgresql_where=sa.text("steps_at_once IS NOT NULL")
    )
    op.create_table(
        "usage",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("audio_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_tenant", "usage", ["tenant", "at"])
    op.create_index("ix_usage_job_id", "usage", ["job_id"])
    op.create_index(
        "ix_usage_uploads",
        "usage",
        ["tenant", "at"],
        postgresql_include=["audio_seconds"],
        postgresql_where=sa.text("stage = 'upload'"),
    )
    op.execute(REFUSE_CHANGES)
    op.execute("""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()
    """)
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("count", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.execute(APPEND_ONLY)
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )
    op.create_index("ix_audit_tenant", "audit", ["tenant", "id"])
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.Column("at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_tenant", "erasures", ["tenant", "at"])
    op.create_table(
        "stored_bytes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_bytes")),
    )
    op.create_index("ix_stored_bytes_tenant", "stored_bytes", ["tenant"], postgresql_include=["bytes"])
    op.execute(COUNT_STORED_BYTES)
    # locks out writers, so that the sum is that of all rows before the first that the trigger sees
    op.execute("""
        CREATE TRIGGER count_stored_bytes
        AFTER INSERT OR DELETE OR UPDATE OF bytes, deleted_at, audio_erased_at ON jobs
        FOR EACH ROW EXECUTE FUNCTION count_stored_bytes()
    """)
    op.execute("""
        INSERT INTO stored_bytes (tenant, bytes)
        SELECT tenant, sum(bytes) FROM jobs WHERE deleted_at IS NULL AND bytes > 0 GROUP BY tenant
    """)


def downgrade() -> None:
    for table in ("stored_bytes", "erasures", "audit", "usage", "tenants", "signing_keys", "api_keys"):
        op.drop_table(table)
    op.execute("DROP TRIGGER count_stored_bytes ON jobs")
    op.execute("DROP FUNCTION count_stored_bytes")
    op.drop_index("ix_jobs_at_work", "jobs")
    op.execute("DROP FUNCTION refuse_changes")
    op.execute("DROP FUNCTION audit_append_only")
    op.execute("DELETE FROM jobs WHERE bytes = 0 AND purpose = 'recording'")
    op.drop_constraint(op.f("ck_jobs_bytes_positive"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_bytes_positive"), "jobs", "(bytes > 0) = (purpose = 'recording')")
    op.drop_column("jobs", "source_digest")
    op.drop_column("jobs", "source_url")
    op.drop_column("jobs", "audio_erased_at")
    op.drop_column("jobs", "key_id")
    op.execute("DROP SEQUENCE access_revision")
