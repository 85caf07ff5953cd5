"""Search over all transcripts of a tenant"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.search.lexemes import vector

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

AT_ONCE = 5000
"""Segments."""

HIDDEN = "tenant || '' = current_setting('longhand.tenant', true)"
POLICY = "tenant = current_setting('longhand.tenant', true)"

# those of jobs that were erased in part have their text of now; drafts are found as they are made from here on
SEGMENTS = sa.text(
    "SELECT s.job_id, s.index, s.chunk, j.tenant, j.created_at AS recorded_at, "
    's.start, s."end", s.text, s.speaker, s.language, false AS provisional '
    "FROM segments s JOIN jobs j ON j.id = s.job_id"
)


def upgrade() -> None:
    passages = op.create_table(
        "passages",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start", sa.Float(53), nullable=False),
        sa.Column("end", sa.Float(53), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("speaker", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("terms", postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "index", name="pk_passages"),
        sa.ForeignKeyConstraint(
            ["job_id", "chunk"],
            ["chunks.job_id", "chunks.index"],
            name="fk_passages_job_id_chunk_chunks",
            ondelete="CASCADE",
        ),
    )
    _fill(passages)
    op.create_index(
        "ix_passages_terms",
        "passages",
        ["terms"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 512},
    )
    op.create_index("ix_passages_newest", "passages", ["tenant", "recorded_at"])
    op.create_index("ix_passages_chunk", "passages", ["job_id", "chunk"])
    # common words are told from rare ones by them
    op.execute("ALTER TABLE passages ALTER COLUMN terms SET STATISTICS 500")
    op.execute("ALTER TABLE passages ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON passages USING ({POLICY}) WITH CHECK ({POLICY})")
    op.execute(f"CREATE VIEW own_passages AS SELECT * FROM passages WHERE {POLICY}")  # noqa: S608
    # no index but that of words helps to find these
    op.execute(f"CREATE VIEW own_passages_by_words AS SELECT * FROM passages WHERE {HIDDEN}")  # noqa: S608


def _fill(passages: sa.Table) -> None:
    """Have the segments that there are found."""
    connection = op.get_bind()
    with connection.execute(SEGMENTS, execution_options={"yield_per": AT_ONCE}) as found:
        for part in found.mappings().partitions():
            rows: list[dict[str, Any]] = [
                dict(row) | {"terms": vector(row["text"], row["tenant"])} for row in part
            ]
            connection.execute(sa.insert(passages), rows)


def downgrade() -> None:
    op.execute("DROP VIEW own_passages_by_words")
    op.execute("DROP VIEW own_passages")
    op.drop_table("passages")
