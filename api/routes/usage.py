"""``/v1/usage``: what a tenant's jobs have processed, in sums by day, key, model and stage."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import RowMapping

from api.access.caller import Caller, tenant_not_yours
from api.dependencies import CallerDep, ServicesDep, needs
from api.downloads import attachment
from api.problems import Problem
from api.text import NO_CONTROLS
from db.access import usage
from db.access.usage import Grouping, Span
from db.models import Scope
from speech.text.tables import write_table

router = APIRouter(prefix="/v1/usage", dependencies=[needs(Scope.JOBS_READ)], tags=["usage"])

MAX_DAYS = 400
"""A year and a month."""
MAX_ROWS = 10_000

LATEST = date(9998, 12, 31)


class UsageFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


class UsageRow(BaseModel):
    """One group and stage. Of the first six fields it has those of its grouping."""

    day: date | None = Field(None, description="In UTC: when the job ended, or the recording was taken.")
    key_id: uuid.UUID | None = Field(None, description="Null for keys of the environment, and without keys.")
    key: str | None = Field(None, description="The key's name.")
    prefix: str | None = Field(None, description="The key's beginning.")
    engine: str | None = Field(None, description="Null where no model is at work.")
    model: str | None = None
    stage: str = Field(description="`upload` counts whole recordings; the others what a kind of step processed.")
    jobs: int
    audio_seconds: float
    bytes: int = Field(description="Of recordings.")


class UsageReport(BaseModel):
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    group_by: list[Grouping]
    data: list[UsageRow]


@router.get(
    "",
    response_model=UsageReport,
    response_model_exclude_unset=True,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def show_usage(
    services: ServicesDep,
    caller: CallerDep,
    first: Annotated[
        date | None,
        Query(alias="from", le=LATEST, description="Day in UTC; by default the first of `to`'s month."),
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", le=LATEST, description="Day in UTC, included; by default today.")
    ] = None,
    group_by: Annotated[
        tuple[Grouping, ...],
        Query(max_length=len(Grouping), description="Repeatable. Stages are always told apart."),
    ] = (Grouping.DAY,),
    tenant: Annotated[
        str | None,
        Query(max_length=200, pattern=NO_CONTROLS, description="Another tenant, for who runs the server."),
    ] = None,
    format_: Annotated[
        UsageFormat | None, Query(alias="format", description="By default what `Accept` asks for.")
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response | UsageReport:
    """What the tenant's jobs have processed, in the order of the groups."""
    wanted = _tenant(caller, tenant)
    span = _span(first, last)
    groupings = sorted(set(group_by), key=list(Grouping).index)
    with services.for_tenant(wanted)() as session:
        rows = usage.report(session, wanted, span, groupings, MAX_ROWS + 1)
    if len(rows) > MAX_ROWS:
        detail = f"These are more than {MAX_ROWS} rows; ask for fewer days, or group by less."
        raise Problem(422, "usage_too_large", "Usage too large", detail)
    if format_ is UsageFormat.CSV or (format_ is None and _prefers_csv(accept)):
        return _csv_response(span, usage.column_names(groupings), rows)
    return UsageReport(
        first=span.first, last=span.last, group_by=groupings, data=[UsageRow(**row) for row in rows]
    )


def _tenant(caller: Caller, tenant: str | None) -> str:
    """The tenant that is asked for. Raises Problem unless the caller may read its usage."""
    if tenant is None or tenant == caller.tenant:
        return caller.tenant
    if not caller.manages(tenant):
        raise tenant_not_yours(tenant)
    return tenant


def _span(first: date | None, last: date | None) -> Span:
    """Raises Problem."""
    last = last or max(datetime.now(UTC).date(), first or date.min)
    span = Span(first or last.replace(day=1), last)
    if not 1 <= span.days <= MAX_DAYS:
        detail = f"`from` is {span.first} and `to` {span.last}; ask for 1 to {MAX_DAYS} days."
        raise Problem(422, "invalid_request", "Invalid request", detail)
    return span


def _prefers_csv(accept: str) -> bool:
    return "text/csv" in accept and "json" not in accept


def _csv_response(span: Span, columns: Sequence[str], rows: Sequence[RowMapping]) -> Response:
    table = write_table([columns, *(row.values() for row in rows)])
    headers = attachment(f"usage-{span.first}-{span.last}", "csv")
    return Response(table, media_type="text/csv; charset=utf-8", headers=headers)
