"""Webhooks of a test, and what their receivers check."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from standardwebhooks import Webhook as Verifier

from db.models import EventType, JobStatus, WebhookDelivery
from db.queue.transaction import job_transaction
from db.secrets import Secrets
from db.session import Sessions
from db.settings import Settings
from db.webhooks import signing, subscriptions
from tasks.runtime import Runtime
from tests.tasks.fetch.server import WebServer

ALL = ("job.completed", "job.failed", "job.cancelled", "speakers.assigned", "export.completed")


def subscribe(
    runtime: Runtime, url: str, events: Sequence[str] = ALL, tenant: str = "default"
) -> tuple[uuid.UUID, str]:
    """A webhook, and its secret."""
    with runtime.sessions.begin() as session:
        webhook = subscriptions.create(session, tenant=tenant, url=url, events=events, description=None)
        return webhook.id, signing.rotate(session, runtime.secrets, tenant, webhook.id)


def tenant_secret(sessions: Sessions, settings: Settings, tenant: str = "default") -> str:
    with sessions.begin() as session:
        return signing.rotate(session, Secrets(settings), tenant, None)


def end(sessions: Sessions, job_id: uuid.UUID, status: JobStatus = JobStatus.CANCELLED) -> None:
    """End a job, or have a job that has ended end once more."""
    with job_transaction(sessions, job_id) as tx:
        tx.job.status = status
        tx.emit(EventType(f"job.{status}"), {})


def deliveries_of(sessions: Sessions) -> list[WebhookDelivery]:
    with sessions() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.created_at)))


def skip_pauses(sessions: Sessions) -> None:
    """As if the time until the next attempts had passed, and leases had run out."""
    with sessions.begin() as session:
        session.execute(
            text(
                "UPDATE webhook_deliveries SET next_at = now() - interval '1 s', "
                "lease_until = lease_until - interval '1 day' WHERE state = 'waiting'"
            )
        )


def received(web: WebServer, secret: str) -> list[dict[str, Any]]:
    """The messages, each verified by the library and by hand."""
    messages = []
    for (_, headers), body in zip(web.asked, web.bodies, strict=True):
        messages.append(Verifier(secret).verify(body, headers))
        assert is_signed(headers, body, secret)
    return messages


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """The specification, without the library that signs."""
    given = {name.lower(): value for name, value in headers.items()}
    signed = b".".join([given["webhook-id"].encode(), given["webhook-timestamp"].encode(), body])
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    json.loads(body)
    return expected.decode() in given["webhook-signature"].split(" ")


def ids(web: WebServer) -> list[str]:
    return [headers["webhook-id"] for _, headers in web.asked]
