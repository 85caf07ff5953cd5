"""``/v1/tenants``: what tenants may use, and what they do. ``/v1/quotas``: the same of the caller's own."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.access.caller import Caller, tenant_not_yours
from api.dependencies import CallerDep, Services, ServicesDep, for_every_caller, needs
from api.problems import Problem
from api.schemas import MAX_DAYS
from db.access import quotas, tenants
from db.access.tenants import limits_of
from db.models import Scope, Tenant
from speech.text.redaction.kinds import PersonalData

router = APIRouter(tags=["tenants"])

MOST_BYTES = 2**60
MOST = 2**31 - 1

Name = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Days = Annotated[float, Field(gt=0, le=MAX_DAYS)]
Count = Annotated[int, Field(ge=0, le=MOST)]


class TenantChange(BaseModel):
    """What a tenant has of its own. Where a field is null, the settings of the server decide."""

    model_config = ConfigDict(extra="forbid")

    audio_hours_month: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        None, description="Hours of audio cut in a month, in UTC."
    )
    stored_bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)] | None = Field(
        None, description="Bytes of recordings kept."
    )
    jobs_at_once: Count | None = Field(None, description="Recordings that wait or are in work.")
    requests_per_minute: Count | None = None
    event_streams: Count | None = Field(None, description="Open at once.")
    uploads_at_once: Count | None = Field(None, description="In one process of the API.")
    steps_at_once: Annotated[int, Field(ge=1, le=MOST)] | None = Field(
        None, description="Steps of one kind that are in work."
    )
    retain_audio_days: Days | None = None
    retain_transcript_days: Days | None = None
    retain_events_days: Days | None = None
    redact: Annotated[list[PersonalData], Field(max_length=len(PersonalData))] | None = Field(
        None, description="Personal data that is left out of transcripts; none where the list is empty."
    )
    keep_original: bool | None = Field(
        None, description="Whether what is left out is kept, encrypted; needs LONGHAND_SECRET_KEY."
    )


class QuotaView(BaseModel):
    """One limit of a tenant."""

    limit: float | int | None = Field(description="Null is no limit.")
    used: float | int | None = Field(description="Null where it is not counted, or cannot be at the moment.")
    own: bool = Field(description="Whether the tenant's own row says so, and not the server's settings.")


class TenantView(BaseModel):
    """A tenant's limits, and what it uses of them now."""

    name: str
    quotas: dict[str, QuotaView]
    month_ends: datetime = Field(description="When the month's hours of audio begin anew.")
    retain_audio_days: float | None
    retain_transcript_days: float | None
    retain_events_days: float | None
    redact: list[str] | None = Field(description="Null, like `keep_original`, where the server's settings decide.")
    keep_original: bool | None
    updated_at: datetime | None = Field(description="Null for a tenant that has nothing of its own.")


class TenantPage(BaseModel):
    data: list[TenantView]
    next_cursor: str | None = Field(description="Pass it as `after`; null on the last page.")


@router.get("/v1/quotas", response_model=TenantView, dependencies=[for_every_caller()])
async def show_quotas(services: ServicesDep, caller: CallerDep) -> TenantView:
    """The caller's own limits, and what is used of them."""
    (view,) = await _views(services, [caller.tenant])
    return view


@router.get("/v1/tenants", response_model=TenantPage, dependencies=[needs(Scope.ADMIN)])
async def list_tenants(
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str, Query(max_length=200)] = "",
) -> TenantPage:
    """Tenants by name: those with a key, or with anything of their own. Only who runs the server sees others'."""
    if caller.operator:
        names = await to_thread.run_sync(_names, services, limit + 1, after)
    else:
        names = [caller.tenant] if after < caller.tenant else []
    shown = names[:limit]
    more = len(names) > limit
    return TenantPage(data=await _views(services, shown), next_cursor=shown[-1] if more else None)


@router.get("/v1/tenants/{name:path}", response_model=TenantView, dependencies=[needs(Scope.ADMIN)])
async def show_tenant(name: Name, services: ServicesDep, caller: CallerDep) -> TenantView:
    """One tenant. Without anything of its own it has what the settings say."""
    if not caller.manages(name):
        raise tenant_not_yours(name)
    (view,) = await _views(services, [name])
    return view


@router.put("/v1/tenants/{name:path}", response_model=TenantView, dependencies=[needs(Scope.ADMIN)])
async def replace_tenant(name: Name, new: TenantChange, services: ServicesDep, caller: CallerDep) -> TenantView:
    """Set all that the tenant has of its own. What is left out is up to the settings."""
    _require_operator(caller, name)
    return await _change(services, name, new.model_dump(mode="json"))


@router.patch("/v1/tenants/{name:path}", response_model=TenantView, dependencies=[needs(Scope.ADMIN)])
async def change_tenant(name: Name, new: TenantChange, services: ServicesDep, caller: CallerDep) -> TenantView:
    """Set some. What is null is up to the settings; what is left out stays as it is."""
    _require_operator(caller, name)
    given = new.model_dump(mode="json", exclude_unset=True)
    if not given:
        raise Problem(422, "invalid_request", "Invalid request", "Give one field at least.")
    return await _change(services, name, given)


def _require_operator(caller: Caller, name: str) -> None:
    """What a tenant may use is not up to itself. Raises Problem."""
    if not caller.operator:
        raise tenant_not_yours(name)


async def _change(services: Services, name: str, values: dict[str, Any]) -> TenantView:
    if values.get("keep_original") and not services.secrets.can_seal:
        raise Problem(
            409,
            "secret_key_missing",
            "Secret key missing",
            "Originals are kept encrypted or not at all: set LONGHAND_SECRET_KEY, for the workers too.",
        )

    def write() -> None:
        with services.across_tenants.begin() as session:
            tenants.change(session, name, values)

    await to_thread.run_sync(write)
    await services.directory.refresh()
    (view,) = await _views(services, [name])
    return view


def _names(services: Services, limit: int, after: str) -> list[str]:
    known = services.settings.bootstrap_tenants | ({"default"} if services.authenticator.is_open else set())
    with services.across_tenants() as session:
        return list(tenants.names(session, sorted(known), limit=limit, after=after))


async def _views(services: Services, names: list[str]) -> list[TenantView]:
    def read() -> list[tuple[str, Tenant | None, quotas.Use]]:
        rows = []
        for name in names:
            with services.for_tenant(name)() as session:
                rows.append((name, tenants.get(session, name), quotas.use(session, [name])[name]))
        return rows

    found = await to_thread.run_sync(read)
    return list(await asyncio.gather(*(_view(services, *each) for each in found)))


async def _view(services: Services, name: str, row: Tenant | None, use: quotas.Use) -> TenantView:
    limits = limits_of(row, name, services.settings, shared=services.directory.shared)
    used: dict[str, float | int | None] = asdict(use)
    if limits.requests_per_minute is not None:
        used["requests_per_minute"] = await services.rates.used(name, limits.requests_per_minute)
    if limits.event_streams is not None:
        used["event_streams"] = await services.streams.used(name)
    return TenantView(
        name=name,
        quotas={
            quota: QuotaView(
                limit=limit, used=used.get(quota), own=row is not None and getattr(row, quota) is not None
            )
            for quota, limit in asdict(limits).items()
        },
        month_ends=quotas.month_end(),
        retain_audio_days=row and row.retain_audio_days,
        retain_transcript_days=row and row.retain_transcript_days,
        retain_events_days=row and row.retain_events_days,
        redact=row and row.redact,
        keep_original=row and row.keep_original,
        updated_at=row and row.updated_at,
    )
