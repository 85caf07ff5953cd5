"""The layer around the application that counts every request, by the template of its route and its status."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.logs import log_event
from db.telemetry import metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""What a client may ask for has no end; what is counted has."""

UNWATCHED = ("/healthz", "/readyz", "/metrics")
"""What is asked every few seconds, by machines: no line in the log and no trace."""


def is_unwatched(scope: Scope) -> bool:
    return scope.get("path") in UNWATCHED


class Metered:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, seconds = time.perf_counter(), 500, None

        async def sending(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            ended = time.perf_counter() - began
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = getattr(scope.get("route"), "path_format", OTHER)
            metrics.requests.labels(method, route, status).inc()
            metrics.observe(metrics.request_seconds.labels(method, route), ended if seconds is None else seconds)
            if not is_unwatched(scope):
                caller = scope.get("state", {}).get("caller")
                log_event(
                    f"{method} {route}: {status}",
                    ended,
                    status=status,
                    tenant=getattr(caller, "tenant", None),
                    job_id=(scope.get("path_params") or {}).get("job_id"),
                )
