"""The outbox: an event's deliveries are inserted in the transaction of the event, so that none is ever lost."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from db.models import EventType, Job, Json, Webhook, WebhookDelivery, WebhookEvent
from db.webhooks.messages import ENDS, job_message, message, name_of

DELIVER = "deliver"
"""What hints to workers call deliveries that are due, beside the kinds of steps."""


def add(session: Session, job: Job, type_: EventType, seq: int, at: datetime, data: Json) -> bool:
    """Insert a delivery to everybody who is to hear of the job's event. Returns whether there is anybody.

    The job's row must be locked. Where nobody is, this takes one look at an index.
    """
    name = name_of(job, type_)
    if name is None:
        return False
    # locked: one that is deleted at this moment is waited for, and passed over then
    webhooks = session.scalars(
        select(Webhook.id)
        .where(Webhook.tenant == job.tenant, Webhook.disabled_at.is_(None), Webhook.events.contains([name.value]))
        .with_for_update(read=True, key_share=True)
    ).all()
    receivers: list[dict[str, Any]] = [{"webhook_id": found, "url": None, "endpoint": found} for found in webhooks]
    own = job.options.get("webhook")
    if own is not None and name in ENDS:
        # whatever its path and query: they differ from job to job, and the limits are for the receiver
        url = httpx.URL(own["url"])
        endpoint = uuid.uuid5(uuid.NAMESPACE_URL, f"{job.tenant} {url.scheme}://{url.netloc.decode()}")
        receivers.append({"webhook_id": None, "url": own["url"], "endpoint": endpoint})
    if receivers:
        told = {
            "tenant": job.tenant,
            "job_id": job.id,
            "seq": seq,
            "type": name,
            "body": job_message(name, job, type_, seq, at, data),
        }
        session.execute(insert(WebhookDelivery), [told | receiver for receiver in receivers])
    return bool(receivers)


def add_test(session: Session, webhook: Webhook) -> WebhookDelivery:
    """Insert a delivery that says nothing but that it arrives. It is tried once."""
    at = session.scalars(select(func.now())).one()
    delivery = WebhookDelivery(
        tenant=webhook.tenant,
        webhook_id=webhook.id,
        endpoint=webhook.id,
        type=WebhookEvent.TEST,
        body=message(WebhookEvent.TEST, at, {"id": str(webhook.id)}),
    )
    session.add(delivery)
    session.flush()
    session.refresh(delivery)
    return delivery
