"""Deliveries: claiming those that are due, and what became of them.

A claim is a lease: it moves ``next_at`` to the lease's end, so the delivery of a worker that died is due again
without anybody healing it. The attempt is committed before the request is sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, delete, func, not_, or_, select, text, tuple_, update
from sqlalchemy.orm import Session

from db.models import DeliveryState, Json, Webhook, WebhookDelivery, WebhookEvent, step_fence
from db.session import Sessions

MOST_OF_ENDPOINT = 2
"""Requests to one endpoint at once."""

MOST_OF_TENANT = 4
"""Requests to all endpoints of a tenant at once."""

PATIENCE = timedelta(hours=1)
"""So long an event holds up later ones of its job to the same endpoint, until it has arrived or is given up."""

TOLD_AFTERWARDS = (WebhookEvent.JOB_CANCELLED, WebhookEvent.JOB_FAILED)
"""What is told of a job though it was erased meanwhile: its receiver would wait for it for ever."""

KEPT_ATTEMPTS = 20
DELETED_AT_ONCE = 10_000

# Endpoints are found one by one in an index, so what a dead receiver leaves waiting makes no other's claim slower.
# Tenants with fewer requests under way come first.
CLAIM_QUERY = text("""
    WITH RECURSIVE endpoints AS (
        (SELECT endpoint FROM webhook_deliveries WHERE state = 'waiting' ORDER BY endpoint LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint FROM webhook_deliveries d
                WHERE d.state = 'waiting' AND d.endpoint > e.endpoint ORDER BY d.endpoint LIMIT 1)
        FROM endpoints e WHERE e.endpoint IS NOT NULL
    ), busy AS (
        SELECT tenant, endpoint FROM webhook_deliveries WHERE lease_until > clock_timestamp()
    ), due AS (
        SELECT d.id, d.next_at, (SELECT count(*) FROM busy b WHERE b.tenant = d.tenant) AS in_work
        FROM endpoints e CROSS JOIN LATERAL (
            SELECT w.id, w.tenant, w.next_at FROM webhook_deliveries w
            WHERE w.state = 'waiting' AND w.endpoint = e.endpoint AND w.next_at <= clock_timestamp()
              AND NOT EXISTS (
                  SELECT FROM webhook_deliveries p
                  WHERE p.state = 'waiting' AND p.endpoint = w.endpoint AND p.job_id = w.job_id AND p.seq < w.seq
                    AND p.created_at > now() - CAST(:patience AS interval))
            ORDER BY w.next_at LIMIT 1) d
        WHERE (SELECT count(*) FROM busy b WHERE b.endpoint = e.endpoint) < :most_of_endpoint
    )
    SELECT id FROM due JOIN webhook_deliveries USING (id)
    WHERE due.in_work < :most_of_tenant
      -- once more, for one whose late worker has just come back
      AND webhook_deliveries.state = 'waiting' AND webhook_deliveries.next_at <= clock_timestamp()
    ORDER BY due.in_work, due.next_at LIMIT 1
    FOR UPDATE OF webhook_deliveries SKIP LOCKED
""")

CLAIM_PARAMETERS = {
    "patience": PATIENCE,
    "most_of_endpoint": MOST_OF_ENDPOINT,
    "most_of_tenant": MOST_OF_TENANT,
}


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A leased delivery: the right to say what became of it while the row still has this fence."""

    id: uuid.UUID
    tenant: str
    webhook_id: uuid.UUID | None
    url: str
    type: str
    body: str
    attempt: int
    fence: int | None
    attempts: list[Json]
    is_disabled: bool


def claim(sessions: Sessions, lease_seconds: float) -> DeliveryClaim | None:
    """Lease one delivery that is due, in fair order over tenants; None if there is none that may be sent now."""
    with sessions.begin() as session:
        # of two workers that count at the same time, both would take an endpoint's last place
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext('claim deliveries'))"))
        found = session.scalar(CLAIM_QUERY, CLAIM_PARAMETERS)
        if found is None:
            return None
        until = func.clock_timestamp() + timedelta(seconds=lease_seconds)
        row = session.scalars(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == found)
            .values(
                attempt=WebhookDelivery.attempt + 1,
                fence=step_fence.next_value(),
                lease_until=until,
                next_at=until,
            )
            .returning(WebhookDelivery)
        ).one()
        webhook = None if row.webhook_id is None else session.get_one(Webhook, row.webhook_id)
        return DeliveryClaim(
            id=row.id,
            tenant=row.tenant,
            webhook_id=row.webhook_id,
            url=webhook.url if webhook is not None else row.url or "",
            type=row.type,
            body=row.body,
            attempt=row.attempt,
            fence=row.fence,
            attempts=row.attempts,
            is_disabled=webhook is not None and webhook.disabled_at is not None,
        )


def finish(
    session: Session, claim: DeliveryClaim, attempt: Json, state: DeliveryState, delay: float | None = None
) -> bool:
    """Note an attempt, and end the delivery or have it wait for ``delay`` seconds. False if the lease was lost."""
    waits = state == DeliveryState.WAITING
    values = {
        "state": state,
        "lease_until": None,
        "attempts": [*claim.attempts, attempt][-KEPT_ATTEMPTS:],
        "ended_at": None if waits else func.now(),
        "next_at": func.clock_timestamp() + timedelta(seconds=delay or 0) if waits else WebhookDelivery.next_at,
    }
    held = (WebhookDelivery.id == claim.id) & (WebhookDelivery.fence == claim.fence)
    result = session.execute(
        update(WebhookDelivery).where(held, WebhookDelivery.lease_until.is_not(None)).values(values)
    )
    return isinstance(result, CursorResult) and result.rowcount == 1


def redeliver(session: Session, tenant: str, delivery_id: uuid.UUID) -> WebhookDelivery | None:
    """Have it delivered once more, now, with all its attempts, whatever became of it; one under way goes on.

    None if it is gone.
    """
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id == delivery_id,
            WebhookDelivery.tenant == tenant,
            or_(WebhookDelivery.lease_until.is_(None), WebhookDelivery.lease_until < func.clock_timestamp()),
        )
        .values(
            state=DeliveryState.WAITING,
            attempt=0,
            next_at=func.clock_timestamp(),
            ended_at=None,
            fence=None,
            lease_until=None,
        )
    )
    return get(session, tenant, delivery_id)


def get(session: Session, tenant: str, delivery_id: uuid.UUID) -> WebhookDelivery | None:
    return session.scalar(
        select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.tenant == tenant),
        execution_options={"populate_existing": True},
    )


def of_webhook(webhook_id: uuid.UUID) -> ColumnElement[bool]:
    return WebhookDelivery.webhook_id == webhook_id


def of_job_itself(job_id: uuid.UUID) -> ColumnElement[bool]:
    """Those to the address that the job named."""
    return (WebhookDelivery.job_id == job_id) & WebhookDelivery.webhook_id.is_(None)


def page(
    session: Session,
    which: ColumnElement[bool],
    *,
    limit: int,
    job_id: uuid.UUID | None = None,
    state: DeliveryState | None = None,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> Sequence[WebhookDelivery]:
    """Up to ``limit`` deliveries, newest first, from behind the (created_at, id) in ``after``."""
    query = select(WebhookDelivery).where(which)
    if job_id is not None:
        query = query.where(WebhookDelivery.job_id == job_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    if after is not None:
        query = query.where(tuple_(WebhookDelivery.created_at, WebhookDelivery.id) < after)
    newest = query.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    return session.scalars(newest.limit(limit)).all()


def count_due(session: Session, cap: int, seconds: float = 0) -> int:
    """How many have been due for at least ``seconds``, counted up to ``cap``."""
    since = func.now() - timedelta(seconds=seconds)
    due = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.state == DeliveryState.WAITING, WebhookDelivery.next_at <= since)
        .limit(cap)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(due)) or 0


def delete_of_erased(session: Session, job_id: uuid.UUID) -> None:
    """Remove what a job that is erased has told, but for what is yet to tell that it came to nothing."""
    tells = (WebhookDelivery.state == DeliveryState.WAITING) & WebhookDelivery.type.in_(TOLD_AFTERWARDS)
    session.execute(
        delete(WebhookDelivery)
        .where(WebhookDelivery.job_id == job_id, not_(tells))
        .execution_options(synchronize_session=False)
    )


def delete_older(sessions: Sessions, days: float) -> int:
    """Remove deliveries that ended longer ago than this. Returns how many went."""
    total = 0
    old = WebhookDelivery.ended_at < func.now() - timedelta(days=days)
    batch = select(WebhookDelivery.id).where(old).limit(DELETED_AT_ONCE)
    while True:
        with sessions.begin() as session:
            # looked at again, as somebody may just have asked for another delivery
            gone = session.scalars(
                delete(WebhookDelivery)
                .where(WebhookDelivery.id.in_(batch), old)
                .returning(WebhookDelivery.id)
                .execution_options(synchronize_session=False)
            ).all()
        total += len(gone)
        if len(gone) < DELETED_AT_ONCE:
            return total
