"""The audit log: rows are added, and read by the admins of a tenant. Nothing else refers to them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, or_, select, text
from sqlalchemy.orm import Session

from db.models import AuditEntry
from db.session import Sessions

DELETED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to which row; the fields are the columns of ``AuditEntry``."""

    at: datetime
    tenant: str | None
    actor: str
    key_id: uuid.UUID | None
    address: str | None
    action: str
    target: str | None
    status: int | None
    count: int = 1


def write(session: Session, entries: Sequence[Entry]) -> None:
    session.execute(insert(AuditEntry), [asdict(entry) for entry in entries])


def note(session: Session, tenant: str, actor: str, action: str, *targets: object) -> None:
    """What a process of ours did to each of these, in the transaction in which it did so."""
    entry = {"tenant": tenant, "actor": actor, "action": action, "status": None}
    if targets:
        session.execute(insert(AuditEntry), [entry | {"target": str(target)} for target in targets])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a reader asks for; None is all."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    """The beginning of the actor: a key's name suffices."""
    action: str | None = None
    """The beginning of the action: a method suffices."""
    target: str | None = None


def page(
    session: Session,
    tenant: str,
    wanted: Wanted,
    *,
    strangers: bool,
    limit: int,
    before: int | None = None,
) -> Sequence[AuditEntry]:
    """Up to ``limit`` entries of the tenant, newest first, with ids below ``before``.

    ``strangers``: also those of callers who gave no valid credential, which belong to no tenant.
    """
    whose = AuditEntry.tenant == tenant
    query = select(AuditEntry).where(or_(whose, AuditEntry.tenant.is_(None)) if strangers else whose)
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    if wanted.actor:
        query = query.where(AuditEntry.actor.startswith(wanted.actor, autoescape=True))
    if wanted.action:
        query = query.where(AuditEntry.action.startswith(wanted.action, autoescape=True))
    if wanted.target:
        query = query.where(AuditEntry.target == wanted.target)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()


def delete_older(sessions: Sessions, days: float) -> int:
    """Remove entries older than this, which a trigger refuses to everybody else. Returns how many went."""
    total = 0
    before = datetime.now(UTC) - timedelta(days=days)
    batch = select(AuditEntry.id).where(AuditEntry.at < before).order_by(AuditEntry.at).limit(DELETED_AT_ONCE)
    while True:
        with sessions.begin() as session:
            session.execute(text("SET LOCAL longhand.audit_upkeep = 'on'"))
            gone = session.scalars(
                delete(AuditEntry).where(AuditEntry.id.in_(batch)).returning(AuditEntry.id)
            ).all()
        total += len(gone)
        if len(gone) < DELETED_AT_ONCE:
            return total
