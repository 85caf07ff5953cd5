"""The index of words is led by tenants, and knows when passages were written"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.search.lexemes import vector

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

AT_ONCE = 5000
"""Passages."""

POLICY = "tenant = current_setting('longhand.tenant', true)"
ERAS = "ARRAY[number >> 15, -1 - (number >> 19)]"
LANGUAGES = "ARRAY[language]"
TERMS: dict[str, Any] = {"postgresql_using": "gin", "postgresql_with": {"gin_pending_list_limit": 512}}


def upgrade() -> None:
    # first what takes long, and locks nothing but rows
    _mark()
    op.drop_index("ix_passages_terms", "passages")
    op.drop_index("ix_passages_newest", "passages")
    op.execute("ALTER TABLE passages ALTER COLUMN terms SET STATISTICS -1")
    # numbers the rows as they lie, which is as they were updated: the oldest recording first
    op.add_column("passages", sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False))
    op.create_index(
        "ix_passages_terms", "passages", ["terms", sa.text(f"({ERAS})"), sa.text(f"({LANGUAGES})")], **TERMS
    )
    # replaced, it keeps its rights; own_passages_by_words stays: processes of the version before ask it
    op.execute(
        f"CREATE OR REPLACE VIEW own_passages AS SELECT *, {ERAS} AS eras, {LANGUAGES} AS languages "  # noqa: S608
        f"FROM passages WHERE {POLICY}"
    )


def _mark() -> None:
    """Give each lexeme the mark of its tenant."""
    connection = op.get_bind()
    # locked: what is written anew meanwhile keeps its own lexemes
    written = sa.text(
        "SELECT job_id, index, tenant, text FROM passages ORDER BY recorded_at, job_id, index FOR NO KEY UPDATE"
    )
    keys: tuple[Any, ...] = (
        postgresql.ARRAY(sa.Uuid()),
        postgresql.ARRAY(sa.Integer()),
        postgresql.ARRAY(sa.Text()),
    )
    update = sa.text(
        "UPDATE passages SET terms = CAST(given.terms AS tsvector) "
        "FROM unnest(:jobs, :indexes, :terms) AS given (job_id, index, terms) "
        "WHERE passages.job_id = given.job_id AND passages.index = given.index"
    ).bindparams(
        *(sa.bindparam(name, type_=kind) for name, kind in zip(("jobs", "indexes", "terms"), keys, strict=True))
    )
    with connection.execute(written, execution_options={"yield_per": AT_ONCE}) as found:
        for part in found.partitions():
            jobs, indexes, tenants, texts = zip(*part, strict=True)
            terms = list(map(vector, texts, tenants))
            connection.execute(update, {"jobs": list(jobs), "indexes": list(indexes), "terms": terms})


def downgrade() -> None:
    """The marks stay, until ``python -m db.search.rebuild`` of the version before has run."""
    op.execute("DROP VIEW own_passages")
    op.drop_index("ix_passages_terms", "passages")
    op.drop_column("passages", "number")
    op.create_index("ix_passages_terms", "passages", ["terms"], **TERMS)
    op.create_index("ix_passages_newest", "passages", ["tenant", "recorded_at"])
    op.execute("ALTER TABLE passages ALTER COLUMN terms SET STATISTICS 500")
    op.execute(f"CREATE VIEW own_passages AS SELECT * FROM passages WHERE {POLICY}")  # noqa: S608
