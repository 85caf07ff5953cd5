"""Rows belong to tenants: policies for every table with a tenant's data"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OWN = (
    *("jobs", "voices", "exports", "finetunes", "model_versions", "signals"),
    *("usage", "stored_bytes", "audit", "erasures", "api_keys"),
)
"""Tables that name the tenant of each row."""

OF_JOBS = ("chunks", "steps", "events", "hypotheses", "segments", "speakers", "turns")

NO_TENANTS = ("signing_keys",)
"""Without a policy nobody but the owner sees a row."""

TENANT = "current_setting('longhand.tenant', true)"


def upgrade() -> None:
    for table in OWN:
        _scope(table, f"tenant = {TENANT}")
    _scope("tenants", f"name = {TENANT}")
    # what the role sees of the parents is scoped in its turn
    for table in OF_JOBS:
        _scope(table, f"EXISTS (SELECT FROM jobs WHERE jobs.id = {table}.job_id)")
    _scope("samples", "EXISTS (SELECT FROM exports WHERE exports.job_id = samples.export_id)")
    for table in NO_TENANTS:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def _scope(table: str, condition: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


REVOKE = """
DO $$
DECLARE
    role name := (
        SELECT rolname FROM pg_class JOIN pg_roles ON rolname =
            CAST(left(CAST(pg_get_userbyid(relowner) AS text), 48) || '_tenant' AS name)
        WHERE pg_class.oid = 'jobs'::regclass
    );
BEGIN
    IF role IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON {tables} FROM %I', role);
    END IF;
END $$
"""
"""The role itself stays: other databases of the server may use it."""


def downgrade() -> None:
    # nothing would hold it to its tenant's rows any more
    op.execute(REVOKE.format(tables=", ".join(("samples", *OF_JOBS, "tenants", *OWN))))
    # children first: their policies refer to the parents
    for table in ("samples", *OF_JOBS, "tenants", *OWN):
        op.execute(f"DROP POLICY tenant ON {table}")
    for table in ("samples", *OF_JOBS, "tenants", *OWN, *NO_TENANTS):
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
