"""Erasures: each is a row from the moment it is asked for, and its certificate once everything has gone."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from db.models import ErasedKind, Erasure, ErasureReason, Withdrawal


def request(
    session: Session,
    tenant: str,
    what: ErasedKind,
    subject: object,
    *,
    reason: ErasureReason,
    requested_by: str,
    counts: Mapping[str, int] | None = None,
    erasure_id: uuid.UUID | None = None,
    dry_run: bool = False,
) -> uuid.UUID:
    """Note that something is to be erased; with ``counts``, that it was. Returns the id."""
    erasure_id = erasure_id or uuid.uuid4()
    session.execute(
        insert(Erasure).values(
            id=erasure_id,
            tenant=tenant,
            what=what.value,
            subject=str(subject),
            reason=reason.value,
            requested_by=requested_by,
            dry_run=dry_run,
            counts=counts,
            erased_at=None if counts is None else func.now(),
        )
    )
    return erasure_id


def of_deletion(job_id: uuid.UUID) -> tuple[ColumnElement[bool], ...]:
    """Conditions on the erasure for which a job was deleted, until it is certified."""
    return (Erasure.subject == str(job_id), Erasure.what != ErasedKind.AUDIO.value, Erasure.counts.is_(None))


def certify(session: Session, erasure_id: uuid.UUID, counts: Mapping[str, int]) -> None:
    """Say how much has gone. It is a certificate once no list of an export names any of it either."""
    session.execute(update(Erasure).where(Erasure.id == erasure_id).values(counts=dict(counts)))
    close(session, [erasure_id])


def close(session: Session, erasure_ids: Sequence[uuid.UUID]) -> None:
    """Make certificates of those of which everything has gone."""
    unlisted = select(Withdrawal.id).where(Withdrawal.erasure_id == Erasure.id, Withdrawal.listed_at.is_(None))
    session.execute(
        update(Erasure)
        .where(
            Erasure.id.in_(erasure_ids),
            Erasure.counts.is_not(None),
            Erasure.erased_at.is_(None),
            ~unlisted.exists(),
        )
        .values(erased_at=func.now())
    )


def get(session: Session, tenant: str, erasure_id: uuid.UUID) -> Erasure | None:
    return session.scalar(select(Erasure).where(Erasure.id == erasure_id, Erasure.tenant == tenant))


def page(
    session: Session,
    tenant: str,
    *,
    limit: int,
    subject: str | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[Erasure]:
    """Up to ``limit`` erasures, newest first, from behind the (requested_at, id) in ``after``."""
    query = select(Erasure).where(Erasure.tenant == tenant)
    if subject is not None:
        query = query.where(Erasure.subject == subject)
    if after is not None:
        query = query.where(tuple_(Erasure.requested_at, Erasure.id) < after)
    return session.scalars(query.order_by(Erasure.requested_at.desc(), Erasure.id.desc()).limit(limit)).all()
