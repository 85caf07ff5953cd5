"""API keys: making, finding, revoking. The key itself is shown once and stored nowhere."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Select, Uuid, cast, column, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from db.access.revisions import next_revision
from db.models import Priority, StoredKey

MARK = "lh_"
"""Every key begins with it, so that scanners of secrets can find one that leaked."""

PREFIX_BYTES = 4
SECRET_BYTES = 32


def digest_of(key: str) -> bytes:
    """What a key is known by. Of 256 random bits: nothing slower than SHA-256 is needed against guessing."""
    return hashlib.sha256(key.encode()).digest()


def create(
    session: Session,
    *,
    tenant: str,
    name: str,
    scopes: Collection[str],
    max_priority: Priority,
    expires_at: datetime | None,
) -> tuple[StoredKey, str]:
    """Insert a key; returns its row and the key. ``scopes`` are values of ``Scope``, or of a newer version's."""
    prefix = MARK + secrets.token_hex(PREFIX_BYTES)
    key = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    row = StoredKey(
        id=uuid.uuid4(),
        tenant=tenant,
        name=name,
        prefix=prefix,
        digest=digest_of(key),
        scopes=sorted(scopes),
        max_priority=max_priority,
        expires_at=expires_at,
        revision=next_revision(session),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, key


def get(session: Session, tenant: str | None, key_id: uuid.UUID) -> StoredKey | None:
    """The tenant's key; anybody's with None."""
    return session.scalar(_of(tenant).where(StoredKey.id == key_id))


def page(
    session: Session, tenant: str | None, *, limit: int, after: tuple[datetime, uuid.UUID] | None = None
) -> Sequence[StoredKey]:
    """Up to ``limit`` keys of the tenant, or of all, newest first, from behind (created_at, id)."""
    query = _of(tenant)
    if after is not None:
        query = query.where(tuple_(StoredKey.created_at, StoredKey.id) < after)
    return session.scalars(query.order_by(StoredKey.created_at.desc(), StoredKey.id.desc()).limit(limit)).all()


def _of(tenant: str | None) -> Select[StoredKey]:
    query = select(StoredKey)
    return query if tenant is None else query.where(StoredKey.tenant == tenant)


def end(session: Session, key_id: uuid.UUID, *, grace_seconds: float = 0) -> None:
    """Revoke a key now, or let it expire after ``grace_seconds`` if it has not by then. A revoked one stays so."""
    values: dict[str, Any] = {"revision": next_revision(session)}
    if grace_seconds > 0:
        values["expires_at"] = func.least(StoredKey.expires_at, func.now() + timedelta(seconds=grace_seconds))
    else:
        values["revoked_at"] = func.coalesce(StoredKey.revoked_at, func.now())
    session.execute(update(StoredKey).where(StoredKey.id == key_id).values(values))


def rotate(session: Session, key_id: uuid.UUID, *, grace_seconds: float = 0) -> tuple[StoredKey, str] | None:
    """Make a key with the rights and the expiry of another, and end that one; None if it has ended before."""
    # such transactions come one at a time: of two rotations the second finds the key ended
    next_revision(session)
    valid = or_(StoredKey.expires_at.is_(None), StoredKey.expires_at > func.clock_timestamp())
    old = session.scalar(
        select(StoredKey).where(StoredKey.id == key_id, StoredKey.revoked_at.is_(None), valid),
        execution_options={"populate_existing": True},
    )
    if old is None:
        return None
    made = create(
        session,
        tenant=old.tenant,
        name=old.name,
        scopes=old.scopes,
        max_priority=old.max_priority,
        expires_at=old.expires_at,
    )
    end(session, key_id, grace_seconds=grace_seconds)
    return made


def changed_since(session: Session, revision: int) -> Sequence[StoredKey]:
    """Keys that were made or ended after that change."""
    return session.scalars(select(StoredKey).where(StoredKey.revision > revision)).all()


def any_exist(session: Session) -> bool:
    """Whether there ever was a key; revoked ones stay in the table."""
    return bool(session.scalar(select(select(StoredKey.id).exists())))


def note_uses(session: Session, uses: Mapping[uuid.UUID, datetime]) -> None:
    """Record when keys were last used, as far as that is news."""
    times = DateTime(timezone=True)
    arrays = cast(list(uses), ARRAY(Uuid)), cast(list(uses.values()), ARRAY(times))
    values = func.unnest(*arrays).table_valued(column("id", Uuid), column("at", times)).render_derived()
    session.execute(
        update(StoredKey)
        .where(
            StoredKey.id == values.c.id, func.coalesce(StoredKey.last_used_at, func.to_timestamp(0)) < values.c.at
        )
        .values(last_used_at=values.c.at)
        .execution_options(synchronize_session=False)
    )
