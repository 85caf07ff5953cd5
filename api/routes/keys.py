"""``/v1/keys``: API keys of a tenant; of every tenant for who runs the server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

from anyio import from_thread
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access.caller import PRIORITIES, Caller, tenant_not_yours
from api.cursors import decode_cursor, encode_cursor
from api.dependencies import CallerDep, Services, ServicesDep, find_by_id, needs
from api.problems import Problem
from api.text import Name
from db.access import keys
from db.models import Priority, Scope, StoredKey

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])

MAX_SECONDS = 10 * 366 * 24 * 3600
MAX_GRACE_SECONDS = 7 * 24 * 3600


class KeyRequest(BaseModel):
    """A key to be made. It can hold no right that its maker lacks."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    tenant: Name | None = Field(None, description="Another than your own only for who runs the server.")
    expires_in: float | None = Field(None, gt=0, le=MAX_SECONDS, description="Seconds; for ever when left out.")
    max_priority: Priority = Priority.NORMAL


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    grace_seconds: float = Field(
        0, ge=0, le=MAX_GRACE_SECONDS, description="How much longer the old key works, so that clients can change."
    )


class KeyView(BaseModel):
    """A key as lists show it: its beginning, and never the key."""

    id: uuid.UUID
    tenant: str
    name: str
    prefix: str
    scopes: list[str]
    max_priority: Priority
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, row: StoredKey) -> KeyView:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class NewKey(KeyView):
    key: str = Field(description="Shown this once.")

    @classmethod
    def made(cls, row: StoredKey, key: str) -> NewKey:
        return cls(**KeyView.of(row).model_dump(), key=key)


class KeyPage(BaseModel):
    data: list[KeyView]
    next_cursor: str | None


@router.post("", status_code=201, response_model=NewKey)
def create_key(wanted: KeyRequest, services: ServicesDep, caller: CallerDep) -> NewKey:
    """Make a key. The answer is the only place where it can be read."""
    tenant = wanted.tenant or caller.tenant
    if not caller.manages(tenant):
        raise tenant_not_yours(tenant)
    if missing := sorted(scope for scope in wanted.scopes if not caller.may(scope)):
        raise Problem(403, "scope_missing", "Scope missing", f"Your own key lacks {', '.join(missing)}.")
    caller.require_priority(wanted.max_priority)
    expires_at = None if wanted.expires_in is None else datetime.now(UTC) + timedelta(seconds=wanted.expires_in)
    with services.for_tenant(tenant).begin() as session:
        made = keys.create(
            session,
            tenant=tenant,
            name=wanted.name,
            scopes=set(wanted.scopes),
            max_priority=wanted.max_priority,
            expires_at=expires_at,
        )
    from_thread.run(services.directory.refresh)
    return NewKey.made(*made)


@router.get("", response_model=KeyPage)
def list_keys(
    services: ServicesDep,
    caller: CallerDep,
    tenant: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> KeyPage:
    """Keys, newest first, revoked and expired ones among them. Who runs the server sees those of all tenants."""
    if tenant is not None and not caller.manages(tenant):
        raise tenant_not_yours(tenant)
    after = decode_cursor(cursor) if cursor else None
    shown = tenant or (None if caller.operator else caller.tenant)
    with (services.across_tenants if shown is None else services.for_tenant(shown))() as session:
        found = keys.page(session, shown, limit=limit + 1, after=after)
    last = found[limit - 1] if len(found) > limit else None
    return KeyPage(
        data=[KeyView.of(row) for row in found[:limit]],
        next_cursor=encode_cursor(last.created_at, last.id) if last else None,
    )


@router.get("/{key_id}", response_model=KeyView)
def show_key(key_id: str, services: ServicesDep, caller: CallerDep) -> KeyView:
    """A key, without the key itself."""
    return KeyView.of(_find(services, caller, key_id))


@router.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_key(key_id: str, services: ServicesDep, caller: CallerDep) -> None:
    """Revoke a key: it works nowhere a second later, nor does any token made with it. It stays listed."""
    row = _find(services, caller, key_id)
    with services.for_tenant(row.tenant).begin() as session:
        keys.end(session, row.id)
    from_thread.run(services.directory.refresh)


@router.post("/{key_id}/rotate", status_code=201, response_model=NewKey)
def rotate_key(key_id: str, services: ServicesDep, caller: CallerDep, rotation: Rotation | None = None) -> NewKey:
    """A new key with the rights and the expiry of the old one, which ends at once, or after ``grace_seconds``."""
    row = _find(services, caller, key_id)
    if PRIORITIES.index(row.max_priority) > PRIORITIES.index(caller.max_priority):
        detail = f"The key may ask for priority {row.max_priority}; rotate it with one that may too."
        raise Problem(403, "priority_not_allowed", "Priority not allowed", detail)
    grace = rotation.grace_seconds if rotation else 0
    with services.for_tenant(row.tenant).begin() as session:
        made = keys.rotate(session, row.id, grace_seconds=grace)
    if made is None:
        detail = "A key that is revoked or expired cannot be rotated; make a new one."
        raise Problem(409, "key_ended", "Key ended", detail)
    from_thread.run(services.directory.refresh)
    return NewKey.made(*made)


def _find(services: Services, caller: Caller, key_id: str) -> StoredKey:
    """A key that the caller manages. Raises Problem (404), whether it is another's or nobody's."""
    sessions = services.across_tenants if caller.operator else services.for_tenant(caller.tenant)
    with sessions() as session:
        found = find_by_id(keys.get, session, None if caller.operator else caller.tenant, key_id)
    if found is None:
        detail = f"There is no key {key_id!r}; keys are listed at /v1/keys."
        raise Problem(404, "key_not_found", "Key not found", detail)
    return found
