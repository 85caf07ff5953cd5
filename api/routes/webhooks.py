"""``/v1/webhooks``: where a tenant's events are sent, and what became of each delivery."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from api.cursors import decode_cursor, encode_cursor
from api.dependencies import CallerDep, CurrentJob, Services, ServicesDep, SessionDep, Tenant, find_by_id, needs
from api.problems import Problem
from api.schemas import WebhookUrl
from api.text import Name
from db.models import DeliveryState, Scope, Webhook, WebhookDelivery, WebhookEvent
from db.webhooks import deliveries, outbox, signing, subscriptions
from tasks.queue import send_hints

router = APIRouter(tags=["webhooks"])
ADMIN = needs(Scope.ADMIN)

DAY_SECONDS = 24 * 3600
MAX_GRACE_SECONDS = 7 * DAY_SECONDS

Subscribed = Literal[
    WebhookEvent.JOB_COMPLETED,
    WebhookEvent.JOB_FAILED,
    WebhookEvent.JOB_CANCELLED,
    WebhookEvent.SPEAKERS_ASSIGNED,
    WebhookEvent.READING_COMPLETED,
    WebhookEvent.READING_FAILED,
    WebhookEvent.EXPORT_COMPLETED,
    WebhookEvent.EXPORT_FAILED,
    WebhookEvent.FINETUNE_COMPLETED,
    WebhookEvent.FINETUNE_FAILED,
]
Events = Annotated[list[Subscribed], Field(min_length=1, max_length=50), AfterValidator(lambda e: sorted(set(e)))]
Limit = Annotated[int, Query(ge=1, le=100)]


class WebhookRequest(BaseModel):
    """Where to send which events of all jobs of the tenant."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl
    events: Events
    description: Name | None = None


class WebhookChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl | None = None
    events: Events | None = None
    description: Name | None = None
    disabled: bool | None = Field(None, description="`false` also forgets that it was failing.")


class SecretRotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    grace_seconds: float = Field(
        DAY_SECONDS,
        ge=0,
        le=MAX_GRACE_SECONDS,
        description="How much longer the old secret signs beside the new one, so that receivers can change.",
    )


class NewSecret(BaseModel):
    secret: str = Field(description="Shown this once.")


class WebhookView(BaseModel):
    """A webhook, without its secret."""

    id: uuid.UUID
    url: str
    events: list[str]
    description: str | None
    created_at: datetime
    disabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None = Field(description="`request`, `gone` (it answered 410) or `failing`.")
    failing_since: datetime | None = Field(description="When the first attempt failed since one succeeded.")
    old_secret_ends_at: datetime | None = Field(description="Until then what is sent is signed with two secrets.")

    @classmethod
    def fields_of(cls, row: Webhook, old_secret_ends_at: datetime | None = None) -> dict[str, Any]:
        return {
            "id": row.id,
            "url": row.url,
            "events": row.events,
            "description": row.description,
            "created_at": row.created_at,
            "disabled": row.disabled_at is not None,
            "disabled_at": row.disabled_at,
            "disabled_reason": row.disabled_reason,
            "failing_since": row.failing_since,
            "old_secret_ends_at": old_secret_ends_at,
        }


class NewWebhook(WebhookView):
    secret: str = Field(description="Verifies what is sent. Shown this once.")


class WebhookList(BaseModel):
    data: list[WebhookView]


class AttemptView(BaseModel):
    at: datetime
    status: int | None = Field(description="Of the answer; null where there was none.")
    error: str | None
    seconds: float
    answer: str | None = Field(description="The first KiB of an answer that was no success.")


class DeliveryView(BaseModel):
    """An event on its way to one receiver. Its id is the `webhook-id` of every attempt."""

    id: uuid.UUID
    webhook_id: uuid.UUID | None
    job_id: uuid.UUID | None
    type: str
    state: DeliveryState
    created_at: datetime
    ended_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[AttemptView] = Field(description="The last of them, the oldest first.")

    @classmethod
    def of(cls, row: WebhookDelivery) -> DeliveryView:
        return cls(
            id=row.id,
            webhook_id=row.webhook_id,
            job_id=row.job_id,
            type=row.type,
            state=row.state,
            created_at=row.created_at,
            ended_at=row.ended_at,
            next_attempt_at=row.next_at if row.state == DeliveryState.WAITING else None,
            attempts=[AttemptView.model_validate(attempt) for attempt in row.attempts],
        )


class DeliveryPage(BaseModel):
    data: list[DeliveryView]
    next_cursor: str | None


@router.post("/v1/webhooks", status_code=201, response_model=NewWebhook, dependencies=[ADMIN])
def create_webhook(
    wanted: WebhookRequest, response: Response, services: ServicesDep, tenant: Tenant
) -> NewWebhook:
    """Subscribe an address to events of all jobs. The answer is the only place where its secret can be read."""
    with services.for_tenant(tenant).begin() as session:
        try:
            webhook = subscriptions.create(
                session, tenant=tenant, url=wanted.url, events=wanted.events, description=wanted.description
            )
        except subscriptions.TooMany:
            detail = f"A tenant has {subscriptions.MOST_WEBHOOKS} webhooks at most; delete one first."
            raise Problem(409, "too_many_webhooks", "Too many webhooks", detail) from None
        secret = signing.rotate(session, services.secrets, tenant, webhook.id)
    response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
    return NewWebhook(**WebhookView.fields_of(webhook), secret=secret)


@router.get("/v1/webhooks", response_model=WebhookList, dependencies=[ADMIN])
def list_webhooks(session: SessionDep, tenant: Tenant) -> WebhookList:
    """All webhooks, newest first."""
    return WebhookList(data=_views(session, subscriptions.of_tenant(session, tenant)))


@router.post("/v1/webhooks/secret", status_code=201, response_model=NewSecret, dependencies=[ADMIN])
def rotate_tenant_secret(
    services: ServicesDep, tenant: Tenant, rotation: SecretRotation | None = None
) -> NewSecret:
    """Make the tenant's secret, or a new one, which signs what is sent to the `webhook` of a job."""
    with services.for_tenant(tenant).begin() as session:
        return NewSecret(secret=_rotate(session, services, tenant, None, rotation))


@router.get("/v1/webhooks/{webhook_id}", response_model=WebhookView, dependencies=[ADMIN])
def show_webhook(webhook_id: str, session: SessionDep, tenant: Tenant) -> WebhookView:
    return _view(session, _find(session, tenant, webhook_id))


@router.patch("/v1/webhooks/{webhook_id}", response_model=WebhookView, dependencies=[ADMIN])
def change_webhook(webhook_id: str, new: WebhookChange, services: ServicesDep, tenant: Tenant) -> WebhookView:
    """Change some of it. Once disabled, it is sent nothing: events of that time are not made up for."""
    given = new.model_dump(exclude_unset=True)
    for name in ("url", "events", "disabled"):
        if name in given and given[name] is None:
            raise Problem(422, "invalid_request", "Invalid request", f"`{name}` cannot be null; leave it out.")
    if not given:
        raise Problem(422, "invalid_request", "Invalid request", "Give one field at least.")
    with services.for_tenant(tenant).begin() as session:
        webhook = _find(session, tenant, webhook_id, lock=True)
        disabled = given.pop("disabled", None)
        for name, value in given.items():
            setattr(webhook, name, value)
        if disabled is not None:
            subscriptions.disable(webhook, "request") if disabled else subscriptions.enable(webhook)
        session.flush()
        session.refresh(webhook)
        return _view(session, webhook)


@router.delete("/v1/webhooks/{webhook_id}", status_code=204, response_class=Response, dependencies=[ADMIN])
def delete_webhook(webhook_id: str, services: ServicesDep, tenant: Tenant) -> None:
    """Forget a webhook with its secrets and its deliveries, those that wait among them."""
    with services.for_tenant(tenant).begin() as session:
        subscriptions.remove(session, _find(session, tenant, webhook_id).id)


@router.post("/v1/webhooks/{webhook_id}/rotate", status_code=201, response_model=NewSecret, dependencies=[ADMIN])
def rotate_webhook_secret(
    webhook_id: str, services: ServicesDep, tenant: Tenant, rotation: SecretRotation | None = None
) -> NewSecret:
    """A new secret. The old one signs beside it for ``grace_seconds``."""
    with services.for_tenant(tenant).begin() as session:
        webhook = _find(session, tenant, webhook_id, lock=True)
        return NewSecret(secret=_rotate(session, services, tenant, webhook.id, rotation))


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202, response_model=DeliveryView, dependencies=[ADMIN])
def test_webhook(
    webhook_id: str, services: ServicesDep, tenant: Tenant, background: BackgroundTasks
) -> DeliveryView:
    """Send `webhook.test`, once. What became of it is among the deliveries."""
    with services.for_tenant(tenant).begin() as session:
        webhook = _find(session, tenant, webhook_id, lock=True)
        _require_enabled(webhook)
        delivery = outbox.add_test(session, webhook)
    background.add_task(send_hints, [outbox.DELIVER])
    return DeliveryView.of(delivery)


@router.get("/v1/webhooks/{webhook_id}/deliveries", response_model=DeliveryPage, dependencies=[ADMIN])
def list_deliveries(
    webhook_id: str,
    session: SessionDep,
    tenant: Tenant,
    job_id: uuid.UUID | None = None,
    state: DeliveryState | None = None,
    limit: Limit = 20,
    cursor: str | None = None,
) -> DeliveryPage:
    """Deliveries to a webhook, newest first."""
    which = deliveries.of_webhook(_find(session, tenant, webhook_id).id)
    return _page(session, which, limit=limit, cursor=cursor, job_id=job_id, state=state)


@router.get("/v1/jobs/{job_id}/deliveries", response_model=DeliveryPage, dependencies=[needs(Scope.JOBS_READ)])
def list_job_deliveries(
    job: CurrentJob, session: SessionDep, limit: Limit = 20, cursor: str | None = None
) -> DeliveryPage:
    """Deliveries to the address that the job itself names in `webhook`, newest first."""
    return _page(session, deliveries.of_job_itself(job.id), limit=limit, cursor=cursor)


@router.post(
    "/v1/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=DeliveryView,
    dependencies=[needs(Scope.JOBS_WRITE)],
)
def redeliver(
    delivery_id: str, services: ServicesDep, caller: CallerDep, background: BackgroundTasks
) -> DeliveryView:
    """Deliver once more, now, whatever became of it, under the same id. Those of webhooks are for admins."""
    with services.for_tenant(caller.tenant).begin() as session:
        delivery = find_by_id(deliveries.get, session, caller.tenant, delivery_id)
        if delivery is not None and delivery.webhook_id is not None:
            if caller.may(Scope.ADMIN):
                # nobody deletes it meanwhile
                _require_enabled(_find(session, caller.tenant, str(delivery.webhook_id), lock=True))
            else:
                delivery = None
        if delivery is not None:
            delivery = deliveries.redeliver(session, caller.tenant, delivery.id)
        if delivery is None:
            detail = f"There is no delivery {delivery_id!r}; they are listed with their webhook or job."
            raise Problem(404, "delivery_not_found", "Delivery not found", detail)
    background.add_task(send_hints, [outbox.DELIVER])
    return DeliveryView.of(delivery)


def _find(session: Session, tenant: str, webhook_id: str, *, lock: bool = False) -> Webhook:
    """Raises Problem (404)."""

    def get(session: Session, tenant: str, row_id: uuid.UUID) -> Webhook | None:
        return subscriptions.get(session, tenant, row_id, lock=lock)

    found = find_by_id(get, session, tenant, webhook_id)
    if found is None:
        detail = f"There is no webhook {webhook_id!r}; webhooks are listed at /v1/webhooks."
        raise Problem(404, "webhook_not_found", "Webhook not found", detail)
    return found


def _require_enabled(webhook: Webhook) -> None:
    """Raises Problem."""
    if webhook.disabled_at is not None:
        detail = f"Webhook {webhook.id} is disabled ({webhook.disabled_reason}); enable it first."
        raise Problem(409, "webhook_disabled", "Webhook disabled", detail)


def _views(session: Session, rows: Sequence[Webhook]) -> list[WebhookView]:
    ends = signing.old_secret_ends_at(session, [row.id for row in rows])
    return [WebhookView(**WebhookView.fields_of(row, ends.get(row.id))) for row in rows]


def _view(session: Session, row: Webhook) -> WebhookView:
    (view,) = _views(session, [row])
    return view


def _rotate(
    session: Session,
    services: Services,
    tenant: str,
    webhook_id: uuid.UUID | None,
    rotation: SecretRotation | None,
) -> str:
    grace = (rotation or SecretRotation()).grace_seconds
    return signing.rotate(session, services.secrets, tenant, webhook_id, grace_seconds=grace)


def _page(
    session: Session, which: ColumnElement[bool], *, limit: int, cursor: str | None, **filters: Any
) -> DeliveryPage:
    after = decode_cursor(cursor) if cursor else None
    found = deliveries.page(session, which, limit=limit + 1, after=after, **filters)
    last = found[limit - 1] if len(found) > limit else None
    return DeliveryPage(
        data=[DeliveryView.of(row) for row in found[:limit]],
        next_cursor=encode_cursor(last.created_at, last.id) if last else None,
    )
