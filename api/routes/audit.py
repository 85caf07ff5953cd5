"""``/v1/audit``: who did what, for admins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel

from api.dependencies import CallerDep, ServicesDep, needs
from api.problems import Problem
from db.access import audit
from db.models import AuditEntry, Scope
from speech.text.tables import write_table

router = APIRouter(prefix="/v1/audit", dependencies=[needs(Scope.ADMIN)], tags=["audit"])

LONGEST_FILTER = 200
LARGEST_ID = 2**63 - 1


class AuditFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


class AuditEntryView(BaseModel):
    id: int
    at: datetime
    tenant: str | None
    actor: str
    key_id: UUID | None
    address: str | None
    action: str
    target: str | None
    status: int | None
    count: int

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditEntryView:
        return cls.model_validate(entry, from_attributes=True)


class AuditPage(BaseModel):
    data: list[AuditEntryView]
    next_cursor: str | None


Filter = Annotated[str | None, Query(max_length=LONGEST_FILTER, pattern=r"^[^\x00-\x1f]*$")]


@router.get(
    "",
    response_model=AuditPage,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def list_audit_entries(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    from_: Annotated[AwareDatetime | None, Query(alias="from", description="Not before this time.")] = None,
    to: Annotated[AwareDatetime | None, Query(description="Before this time.")] = None,
    actor: Filter = None,
    action: Filter = None,
    target: Filter = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
    format_: Annotated[AuditFormat, Query(alias="format")] = AuditFormat.JSON,
) -> AuditPage | Response:
    """What was done to the tenant's rows, newest first. ``actor`` and ``action`` match by their beginning.

    As CSV the next page is named by the header ``Link``.
    """
    # who gave no valid credential belongs to no tenant: only who runs the server sees them
    sessions = services.across_tenants if caller.operator else services.for_tenant(caller.tenant)
    with sessions() as session:
        found = audit.page(
            session,
            caller.tenant,
            audit.Wanted(from_, to, actor, action, target),
            strangers=caller.operator,
            limit=limit + 1,
            before=_decode_cursor(cursor) if cursor else None,
        )
    shown = [AuditEntryView.of(entry) for entry in found[:limit]]
    next_cursor = str(shown[-1].id) if len(found) > limit else None
    if format_ is AuditFormat.JSON:
        return AuditPage(data=shown, next_cursor=next_cursor)
    response = Response(_csv(shown), media_type="text/csv; charset=utf-8")
    if next_cursor:
        query = urlencode({**request.query_params, "cursor": next_cursor})
        response.headers["Link"] = f'</v1/audit?{query}>; rel="next"'
    return response


def _decode_cursor(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 20 and int(cursor) <= LARGEST_ID:
        return int(cursor)
    detail = "Pass `next_cursor` of the page before, unchanged."
    raise Problem(400, "invalid_cursor", "Invalid cursor", detail)


def _csv(entries: Sequence[AuditEntryView]) -> str:
    rows = (entry.model_dump(mode="json").values() for entry in entries)
    return write_table([AuditEntryView.model_fields, *rows])
