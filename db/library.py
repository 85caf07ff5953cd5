"""Order among recordings: titles and tags, collections, saved searches."""

from __future__ import annotations

import uuid
from collections.abc import Collection as Ids
from collections.abc import Sequence

from sqlalchemy import Row, Select, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from db import jobs
from db.access import quotas
from db.models import Collection, CollectionJob, Job, SavedSearch

SHOWN = Job.deleted_at.is_(None) & jobs.IS_TRANSCRIPTION


MOST_COLLECTIONS, MOST_SEARCHES = 1000, 500
"""That a tenant may have."""

MOST_EXPORTED = 5000
"""Recordings whose transcripts are sent in one file."""


def tags(session: Session, tenant: str) -> Sequence[Row[str, int]]:
    """The tenant's tags with how many recordings have each, the most used first."""
    tag, count = func.unnest(Job.tags).label("tag"), func.count().label("count")
    each = select(tag).where(Job.tenant == tenant, SHOWN).subquery()
    return session.execute(select(each.c.tag, count).group_by(each.c.tag).order_by(count.desc(), each.c.tag)).all()


def collections(session: Session, tenant: str) -> Sequence[Row[Collection, int]]:
    """The tenant's collections by name, with how many recordings are in each."""
    held = _count_in(Collection.id).scalar_subquery()
    return session.execute(
        select(Collection, held).where(Collection.tenant == tenant).order_by(Collection.name)
    ).all()


def collection(session: Session, tenant: str, collection_id: uuid.UUID) -> Collection | None:
    return session.scalar(select(Collection).where(Collection.id == collection_id, Collection.tenant == tenant))


def count(session: Session, collection_id: uuid.UUID) -> int:
    """How many recordings are in a collection."""
    return session.scalars(_count_in(collection_id)).one()


def _count_in(collection_id: uuid.UUID | InstrumentedAttribute[uuid.UUID]) -> Select[int]:
    return (
        select(func.count())
        .select_from(CollectionJob)
        .join(Job, Job.id == CollectionJob.job_id)
        .where(CollectionJob.collection_id == collection_id, SHOWN)
    )


def in_collection(session: Session, collection_id: uuid.UUID, *, limit: int) -> Sequence[Job]:
    """Up to so many recordings of a collection, oldest first."""
    return session.scalars(
        select(Job)
        .join(CollectionJob, CollectionJob.job_id == Job.id)
        .where(CollectionJob.collection_id == collection_id, SHOWN)
        .order_by(Job.created_at, Job.id)
        .limit(limit)
    ).all()


def held(session: Session, tenant: str, kind: type[Collection] | type[SavedSearch]) -> int:
    """How many the tenant has, one transaction at a time."""
    quotas.lock(session, tenant)
    return session.scalars(select(func.count()).select_from(kind).where(kind.tenant == tenant)).one()


def add_to(session: Session, collection_id: uuid.UUID, tenant: str, job_ids: Ids[uuid.UUID]) -> int:
    """Add those of the recordings that are the tenant's. Returns how many were not there already."""
    theirs = select(Job.id).where(Job.id.in_(job_ids), Job.tenant == tenant, SHOWN)
    rows = [{"collection_id": collection_id, "job_id": found} for found in session.scalars(theirs)]
    if not rows:
        return 0
    added = insert(CollectionJob).values(rows).on_conflict_do_nothing().returning(CollectionJob.job_id)
    return len(session.scalars(added).all())


def take_from(session: Session, collection_id: uuid.UUID, job_ids: Ids[uuid.UUID]) -> int:
    """Returns how many were in it."""
    there = CollectionJob.collection_id == collection_id, CollectionJob.job_id.in_(job_ids)
    return len(session.scalars(delete(CollectionJob).where(*there).returning(CollectionJob.job_id)).all())


def saved_searches(session: Session, tenant: str) -> Sequence[SavedSearch]:
    """By name."""
    return session.scalars(
        select(SavedSearch).where(SavedSearch.tenant == tenant).order_by(SavedSearch.name)
    ).all()


def forget_searches_for(session: Session, tenant: str, person: str) -> None:
    """Delete the saved searches that name a person: whatever the case, and whatever else they look for."""
    texts = SavedSearch.name, SavedSearch.query["q"].astext, SavedSearch.query["speaker"].astext
    names = or_(*(func.strpos(func.lower(text), func.lower(person)) > 0 for text in texts))
    session.execute(delete(SavedSearch).where(SavedSearch.tenant == tenant, names))


def saved_search(session: Session, tenant: str, search_id: uuid.UUID) -> SavedSearch | None:
    return session.scalar(select(SavedSearch).where(SavedSearch.id == search_id, SavedSearch.tenant == tenant))
