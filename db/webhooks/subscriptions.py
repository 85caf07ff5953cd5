"""The webhooks of a tenant: making, finding, changing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db.models import Webhook

MOST_WEBHOOKS = 20
"""Of a tenant. Each event is looked up among them, and sent to so many at most."""


class TooMany(Exception):
    """The tenant has as many webhooks as it may."""


def create(session: Session, *, tenant: str, url: str, events: Sequence[str], description: str | None) -> Webhook:
    """Raises TooMany."""
    # of two at once, the second counts what the first has made
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"webhooks {tenant}"))))
    count = session.scalar(select(func.count()).select_from(Webhook).where(Webhook.tenant == tenant)) or 0
    if count >= MOST_WEBHOOKS:
        raise TooMany
    webhook = Webhook(tenant=tenant, url=url, events=list(events), description=description)
    session.add(webhook)
    session.flush()
    session.refresh(webhook)
    return webhook


def get(session: Session, tenant: str, webhook_id: uuid.UUID, *, lock: bool = False) -> Webhook | None:
    query = select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant == tenant)
    return session.scalar(query.with_for_update(key_share=True) if lock else query)


def of_tenant(session: Session, tenant: str) -> Sequence[Webhook]:
    """All of the tenant, newest first."""
    query = select(Webhook).where(Webhook.tenant == tenant)
    return session.scalars(query.order_by(Webhook.created_at.desc(), Webhook.id.desc())).all()


def disable(webhook: Webhook, reason: str) -> None:
    """Nothing more is sent to it. What waits is given up when it is due, unless it is enabled again by then."""
    if webhook.disabled_at is None:
        webhook.disabled_at, webhook.disabled_reason = func.now(), reason


def enable(webhook: Webhook) -> None:
    webhook.disabled_at = webhook.disabled_reason = webhook.failing_since = None


def remove(session: Session, webhook_id: uuid.UUID) -> None:
    """Forget it with its secrets and deliveries."""
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))
