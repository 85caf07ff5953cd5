"""The vocabulary of a tenant: its terms, and the corrections that others may be learnt from."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Job, SegmentSource, StoredSegment, VocabularyTerm

MOST_TERMS = 2000
"""That a tenant may have, rejected ones among them."""

MOST_CORRECTIONS, MOST_CHARACTERS = 2000, 1000
"""That are looked at for proposals: the latest, of segments that are not longer before or after."""


def terms(session: Session, tenant: str) -> Sequence[VocabularyTerm]:
    """All that were accepted or rejected, by their spelling."""
    query = select(VocabularyTerm).where(VocabularyTerm.tenant == tenant)
    return session.scalars(query.order_by(func.lower(VocabularyTerm.term), VocabularyTerm.id)).all()


def accepted(session: Session, tenants: Collection[str]) -> Sequence[VocabularyTerm]:
    """Those of all these tenants, the newest first."""
    query = select(VocabularyTerm).where(VocabularyTerm.tenant.in_(tenants), VocabularyTerm.accepted)
    return session.scalars(query.order_by(VocabularyTerm.created_at.desc(), VocabularyTerm.id)).all()


def get(session: Session, tenant: str, term_id: uuid.UUID) -> VocabularyTerm | None:
    return session.scalar(
        select(VocabularyTerm).where(VocabularyTerm.tenant == tenant, VocabularyTerm.id == term_id)
    )


def corrections(session: Session, tenant: str) -> list[tuple[str, str]]:
    """Of each segment whose text a person has corrected: what models wrote, and what it says now."""
    rows = session.execute(
        select(StoredSegment.machine["text"].astext, StoredSegment.text)
        .join(Job, Job.id == StoredSegment.job_id)
        .where(
            Job.tenant == tenant,
            Job.deleted_at.is_(None),
            StoredSegment.machine.is_not(None),
            StoredSegment.source == SegmentSource.HUMAN,
            StoredSegment.machine["text"].astext != StoredSegment.text,
            func.length(StoredSegment.machine["text"].astext) <= MOST_CHARACTERS,
            func.length(StoredSegment.text) <= MOST_CHARACTERS,
        )
        .order_by(Job.corrected_at.desc().nulls_last(), Job.id)
        .limit(MOST_CORRECTIONS)
    )
    return [(wrong, right) for wrong, right in rows]
