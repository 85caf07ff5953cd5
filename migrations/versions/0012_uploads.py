"""Resumable uploads"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TENANT = "tenant = current_setting('longhand.tenant', true)"
POLICIES = {
    "uploads": TENANT,
    # what the role sees of the parents is scoped in its turn
    "upload_parts": "EXISTS (SELECT FROM uploads WHERE uploads.id = upload_parts.upload_id)",
}

COUNT_UPLOADED_BYTES = """
    CREATE FUNCTION count_uploaded_bytes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        change bigint := 0;
    BEGIN
        IF TG_OP <> 'DELETE' AND NEW.used_at IS NULL THEN
            change := NEW.bytes;
        END IF;
        IF TG_OP <> 'INSERT' AND OLD.used_at IS NULL THEN
            change := change - OLD.bytes;
        END IF;
        IF change <> 0 THEN
            INSERT INTO stored_bytes (tenant, bytes)
            VALUES (CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END, change);
        END IF;
        RETURN NULL;
    END $$
"""
"""Like those of jobs, until a job takes over."""


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("metadata_line", sa.Text(), nullable=True),
        sa.Column("in_parts", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("concat", sa.Text(), nullable=True),
        sa.Column("received", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("writer", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("completed_at", TIME, nullable=True),
        sa.Column("used_at", TIME, nullable=True),
        sa.CheckConstraint("bytes > 0", name=op.f("ck_uploads_bytes_positive")),
        sa.CheckConstraint("received BETWEEN 0 AND bytes", name=op.f("ck_uploads_received")),
        sa.CheckConstraint("completed_at IS NULL OR received = bytes", name=op.f("ck_uploads_completed_has_all")),
        sa.CheckConstraint(
            "used_at IS NULL OR completed_at IS NOT NULL", name=op.f("ck_uploads_used_is_completed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_open", "uploads", ["tenant"], postgresql_where=sa.text("used_at IS NULL"))
    op.create_index(
        "ix_uploads_expires_at", "uploads", ["expires_at"], postgresql_where=sa.text("used_at IS NULL")
    )
    op.create_table(
        "upload_parts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("start >= 0 AND bytes > 0", name=op.f("ck_upload_parts_span")),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_upload_parts")),
        sa.UniqueConstraint("upload_id", "start", name=op.f("uq_upload_parts_upload_id_start")),
    )
    op.execute(COUNT_UPLOADED_BYTES)
    op.execute("""
        CREATE TRIGGER count_uploaded_bytes
        AFTER INSERT OR DELETE OR UPDATE OF used_at ON uploads
        FOR EACH ROW EXECUTE FUNCTION count_uploaded_bytes()
    """)
    for table, condition in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


def downgrade() -> None:
    # what is deleted is counted as gone; parts left in storage are swept
    op.execute("DELETE FROM uploads")
    op.drop_table("upload_parts")
    op.drop_table("uploads")
    op.execute("DROP FUNCTION count_uploaded_bytes")
