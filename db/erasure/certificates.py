"""Erasures: each is a row from the moment it is asked for, and its certificate once everything has gone."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Text, cast, func, insert, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from db.models import ErasedKind, Erasure, ErasureReason, Job, Withdrawal


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
    part_of: uuid.UUID | None = None,
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
            part_of=part_of,
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
    """Say how much has gone. It is a certificate once no list of an export names any of it, and its parts are."""
    session.execute(
        update(Erasure).where(Erasure.id == erasure_id, Erasure.counts.is_(None)).values(counts=dict(counts))
    )
    close(session, [erasure_id])


def close(session: Session, erasure_ids: Collection[uuid.UUID]) -> None:
    """Make certificates of those of which everything has gone, and then of what they are parts of."""
    while erasure_ids:
        # whoever closes the last part, or writes the last list, sees what the others have done
        session.execute(
            select(Erasure.id).where(Erasure.id.in_(erasure_ids)).order_by(Erasure.id).with_for_update()
        ).all()
        unlisted = select(Withdrawal.id).where(Withdrawal.erasure_id == Erasure.id, Withdrawal.listed_at.is_(None))
        part = aliased(Erasure)
        open_parts = select(part.id).where(part.part_of == Erasure.id, part.erased_at.is_(None))
        closed = session.scalars(
            update(Erasure)
            .where(
                Erasure.id.in_(erasure_ids),
                Erasure.counts.is_not(None),
                Erasure.erased_at.is_(None),
                ~unlisted.exists(),
                ~open_parts.exists(),
            )
            .values(erased_at=func.now())
            .returning(Erasure.part_of)
        ).all()
        erasure_ids = {whole for whole in closed if whole is not None}


def close_leftovers(session: Session) -> None:
    """Whatever has gone is certified, whoever removed it: an older version, or a process that died just then."""
    existing = select(Job.id).where(cast(Job.id, Text) == Erasure.subject)
    gone = update(Erasure).where(
        Erasure.what.in_((ErasedKind.JOB.value, ErasedKind.ENROLMENT.value)),
        Erasure.counts.is_(None),
        ~existing.exists(),
    )
    session.execute(gone.values(counts={}))
    close(session, session.scalars(select(Erasure.id).where(Erasure.erased_at.is_(None))).all())


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
