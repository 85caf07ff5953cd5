"""The layer around the application that no request passes without leaving its entry in the audit log."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access.audit_log import AuditLog
from api.access.caller import Caller
from api.access.refusals import Refused, network_of
from api.problems import storage_unavailable
from db.access.audit import Entry

logger = logging.getLogger(__name__)

READS = ("GET", "HEAD", "OPTIONS")
REFUSED = (401, 403, 429)
"""Counted instead of written one by one."""

UNRECORDED = {
    *("/v1/jobs", "/v1/jobs/{job_id}", "/v1/voices", "/v1/voices/{voice_id}"),
    *("/v1/uploads", "/v1/uploads/{upload_id}"),
    *("/v1/exports", "/v1/exports/{export_id}", "/v1/finetunes", "/v1/finetunes/{finetune_id}"),
    *("/v1/model-versions", "/v1/model-versions/report", "/v1/model-versions/{version_id}", "/api/health"),
    *("/v1/erasures", "/v1/erasures/{erasure_id}"),
    *("/v1/webhooks", "/v1/webhooks/{webhook_id}", "/v1/webhooks/{webhook_id}/deliveries"),
    *("/v1/jobs/{job_id}/deliveries", "/v1/jobs/{job_id}/peaks"),
    *("/v1/models", "/v1/models/{model}", "/v1/server", "/v1/queues"),
}
"""Reads without content, which clients repeat while they wait. Every other read of a tenant's data is recorded."""

MAX_LENGTH = 200
"""Of what a client names."""


def note(request: Request, what: str) -> None:
    """Have the entry of a request tell which of the things it is that its route does."""
    request.state.audit_note = f" {what}"


class Audit:
    """ASGI middleware. A change is recorded before its answer is sent; a read soon after."""

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = replaced = False

        async def sending(message: Message) -> None:
            nonlocal answered, replaced
            if message["type"] == "http.response.start":
                answered = True
                replaced = not await self._record(scope, message["status"], Headers(raw=message["headers"]))
                if replaced:
                    # nothing is done that is not recorded: the caller is not told that it was
                    await storage_unavailable().response()(scope, receive, send)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if not answered:
                await self._record(scope, 500, Headers())
            raise

    async def _record(self, scope: Scope, status: int, headers: Headers) -> bool:
        """Returns False if a change that was made could not be recorded."""
        caller = scope.get("state", {}).get("caller")
        address = _line((scope.get("client") or (None,))[0])
        if status in REFUSED:
            self._log.add_refused(_refused(caller, address, status))
            return True
        route = getattr(scope.get("route"), "path_format", None)
        if route is None or caller is None:
            return True
        entry = Entry(
            at=datetime.now(UTC),
            tenant=caller.tenant,
            actor=_line(caller.actor) or "",
            key_id=caller.key_id,
            address=address,
            action=f"{scope['method']} {route}{scope['state'].get('audit_note', '')}",
            target=_target(scope, headers),
            status=status,
        )
        if scope["method"] in READS:
            if route not in UNRECORDED:
                self._log.add(entry)
            return True
        try:
            await self._log.commit(entry)
        except SQLAlchemyError:
            logger.error("%s by %s could not be recorded", entry.action, entry.actor)
            return status >= 400
        return True


def _refused(caller: Caller | None, address: str | None, status: int) -> Refused:
    if caller is None:
        return Refused(None, "unknown", None, network_of(address), status)
    return Refused(caller.tenant, _line(caller.actor) or "", caller.key_id, network_of(address), status)


def _target(scope: Scope, headers: Headers) -> str | None:
    """The id in the path, or that of the row that was made."""
    parameters: dict[str, Any] = scope.get("path_params") or {}
    location = headers.get("location", "")
    made = location.rpartition("/")[2] if location.startswith("/v1/") else headers.get("x-request-id")
    return _line(next(iter(parameters.values()), None) or made)


def _line(text: object) -> str | None:
    """Whatever a client put there: printable, and short."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "?", str(text))[:MAX_LENGTH] if text else None
