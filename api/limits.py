"""What no request may exceed, before anything looks at it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem

HEADER_BYTES = 32 * 1024


class HeaderLimit:
    """Refuses requests with more headers than any of ours needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(name) + len(value) for name, value in scope.get("headers", ()))
        if size <= HEADER_BYTES:
            await self._app(scope, receive, send)
            return
        detail = f"The headers hold {size} bytes; this server takes {HEADER_BYTES}."
        refused = Problem(431, "headers_too_large", "Request header fields too large", detail)
        await refused.response()(scope, receive, send)
