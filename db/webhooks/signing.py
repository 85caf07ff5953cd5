"""The secrets that sign what is sent: of each webhook, and one of the tenant for what its jobs ask for."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from db.models import WebhookSecret
from db.secrets import Secrets

MARK = "whsec_"
SECRET_BYTES = 32


def rotate(
    session: Session, sealing: Secrets, tenant: str, webhook_id: uuid.UUID | None, *, grace_seconds: float = 0
) -> str:
    """Make a secret, which is returned and shown this once. The one before signs too for ``grace_seconds``.

    ``webhook_id`` None is the tenant's own, for the addresses that jobs name.
    """
    # of two at once, the second finds what the first has made
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"webhook secret {tenant} {webhook_id}"))))
    whose = _of(tenant, webhook_id)
    ended = whose if grace_seconds <= 0 else whose & WebhookSecret.ends_at.is_not(None)
    session.execute(delete(WebhookSecret).where(ended))
    ends_at = func.now() + timedelta(seconds=grace_seconds)
    session.execute(update(WebhookSecret).where(whose).values(ends_at=ends_at))
    secret = MARK + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    session.add(WebhookSecret(tenant=tenant, webhook_id=webhook_id, secret=sealing.seal(secret.encode())))
    session.flush()
    return secret


def _of(tenant: str, webhook_id: uuid.UUID | None) -> ColumnElement[bool]:
    return (WebhookSecret.tenant == tenant) & WebhookSecret.webhook_id.is_not_distinct_from(webhook_id)


def sealed(session: Session, tenant: str, webhook_id: uuid.UUID | None) -> Sequence[bytes]:
    """The secrets that sign at this moment, the newest first, as they are stored."""
    valid = or_(WebhookSecret.ends_at.is_(None), WebhookSecret.ends_at > func.now())
    return session.scalars(
        select(WebhookSecret.secret)
        .where(_of(tenant, webhook_id), valid)
        .order_by(WebhookSecret.ends_at.desc().nulls_first())
    ).all()


def exists(session: Session, tenant: str) -> bool:
    """Whether the tenant has a secret of its own, without which no job may name an address."""
    return session.scalar(select(WebhookSecret.id).where(_of(tenant, None)).limit(1)) is not None


def old_secret_ends_at(session: Session, webhook_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Until when the secret before the newest signs too, of those webhooks that have one."""
    rows = session.execute(
        select(WebhookSecret.webhook_id, WebhookSecret.ends_at).where(
            WebhookSecret.webhook_id.in_(webhook_ids), WebhookSecret.ends_at > func.now()
        )
    )
    return {row.webhook_id: row.ends_at for row in rows}
