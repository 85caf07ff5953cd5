"""Titles, tags, collections, saved searches, and links to transcripts"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

OWN = "tenant = current_setting('longhand.tenant', true)"
OF_COLLECTIONS = (
    "EXISTS (SELECT FROM collections WHERE collections.id = collection_jobs.collection_id) "
    "AND EXISTS (SELECT FROM jobs WHERE jobs.id = collection_jobs.job_id)"
)
TABLES = ("links", "saved_searches", "collection_jobs", "collections")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("title", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.create_table(
        "collections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("tenant", "name", name="uq_collections_tenant_name"),
    )
    op.create_table(
        "collection_jobs",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "job_id", name="pk_collection_jobs"),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name="fk_collection_jobs_collection_id_collections",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_collection_jobs_job_id_jobs", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_collection_jobs_job_id", "collection_jobs", ["job_id"])
    op.create_table(
        "saved_searches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", postgresql.JSONB(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="pk_saved_searches"),
        sa.UniqueConstraint("tenant", "name", name="uq_saved_searches_tenant_name"),
    )
    op.create_table(
        "links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("audio", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        _created_at(),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
        sa.UniqueConstraint("digest", name="uq_links_digest"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_links_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_index("ix_links_job_id", "links", ["job_id"])
    for table in TABLES:
        condition = OF_COLLECTIONS if table == "collection_jobs" else OWN
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


def _created_at() -> sa.Column[datetime]:
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("jobs", "tags")
    op.drop_column("jobs", "title")
