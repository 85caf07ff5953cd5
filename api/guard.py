"""The middleware in front of every request: header size, host, authentication, body limits, response headers."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access.authenticate import Authenticator
from api.access.caller import Caller
from api.access.rates import Rates
from api.problems import Problem
from api.uploads.resumable.tus import VERSION
from db.access.tenants import Limits
from db.settings import Settings

MAX_HEADER_BYTES = 32 * 1024
MAX_BODY_BYTES = 256 * 1024
"""Of requests that are no uploads; those have limits of their own."""

LINK_REQUESTS_PER_MINUTE = 60

PROTECTED = ("/v1/", "/api/")
UPLOADS = re.compile(
    r"POST /v1/(jobs|voices|uploads|audio/transcriptions|audio/translations)|PATCH /v1/uploads/[^/]+"
)
"""What is read as it comes. Everything else is small, and read before the application sees the request."""

TAKES_QUERY_TOKEN = re.compile(r"/v1/jobs/[^/]+/(events|audio)")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGES = ("/docs", "/redoc")
PAGES_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; worker-src blob:; frame-ancestors 'none'"
)
"""Swagger's and ReDoc's pages begin with a script and styles of their own."""


class Guard:
    """ASGI middleware. Rejects with a problem document, and keeps nothing of a rejected request's body."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        authenticator: Authenticator,
        rates: Rates,
        limits: Callable[[str], Limits],
    ) -> None:
        """``limits`` gives those of a tenant."""
        self._app, self._settings, self._authenticator = app, settings, authenticator
        self._rates, self._limits = rates, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(scope, send)
        _override_method(scope)
        token = take_token(scope)
        try:
            receive = await self._admit(scope, receive, token)
        except Problem as problem:
            # the rest of the body is not read: the connection closes with the response
            problem.headers.setdefault("Connection", "close")
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, token: str | None) -> Receive:
        """The ``receive`` that the application gets. Raises Problem."""
        headers = Headers(scope=scope)
        _check_size(scope)
        if self._authenticator.is_open:
            check_host(headers.get("host", ""))
        if scope["path"].startswith(PROTECTED):
            address = (scope.get("client") or ("",))[0]
            query = token if "authorization" not in headers and _takes_query_token(scope) else None
            caller = await self._authenticator.caller(headers.get("authorization"), address, query_token=query)
            caller.require_path(scope["path"])
            scope.setdefault("state", {})["caller"] = caller
            await self._count(scope, caller)
        is_form = not headers.get("content-type", "").lower().startswith("application/json")
        if _is_upload(scope) and is_form:
            return receive
        return await _read_body(headers, receive, self._settings.stall_seconds)

    async def _count(self, scope: Scope, caller: Caller) -> None:
        """Count the request if those of its tenant, or by its link, are limited. Raises Problem."""
        if caller.link is not None:
            # whoever it was handed to takes nothing from the tenant
            who, limit = f"link {caller.link.id}", LINK_REQUESTS_PER_MINUTE
        elif (of_tenant := self._limits(caller.tenant).requests_per_minute) is not None:
            who, limit = caller.tenant, of_tenant
        else:
            return
        try:
            scope["state"]["rate"] = await self._rates.admit(who, limit, upload=_is_upload(scope))
        except Problem as problem:
            headers = Headers(scope=scope)
            if "transfer-encoding" not in headers and int(headers.get("content-length", 0)) <= MAX_BODY_BYTES:
                # a reset would reach a client that is still sending before the answer does
                problem.headers["Connection"] = "keep-alive"
            raise


def _is_upload(scope: Scope) -> bool:
    return UPLOADS.fullmatch(f"{scope['method']} {scope['path'].rstrip('/')}") is not None


def _override_method(scope: Scope) -> None:
    """What tus clients ask for that can send nothing but POST."""
    wanted = Headers(scope=scope).get("x-http-method-override", "").upper()
    if scope["method"] == "POST" and scope["path"].startswith("/v1/uploads/") and wanted in ("PATCH", "DELETE"):
        scope["method"] = wanted


def _takes_query_token(scope: Scope) -> bool:
    """Where clients cannot set headers: an EventSource, an audio element."""
    return scope["method"] in ("GET", "HEAD") and TAKES_QUERY_TOKEN.fullmatch(scope["path"]) is not None


def take_token(scope: Scope) -> str | None:
    """Take the token out of the URL, wherever it is sent: no log and no answer can repeat it then."""
    query = scope["query_string"].decode("latin-1")
    pairs = query.split("&")
    kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) != "token"]
    if len(kept) == len(pairs):
        return None
    scope["query_string"] = "&".join(kept).encode("latin-1")
    return dict(parse_qsl(query)).get("token")


def _check_size(scope: Scope) -> None:
    size = sum(len(name) + len(value) for name, value in scope.get("headers", ()))
    if size > MAX_HEADER_BYTES:
        detail = f"The headers hold {size} bytes; this server takes {MAX_HEADER_BYTES}."
        raise Problem(431, "headers_too_large", "Request header fields too large", detail)


def check_host(host: str) -> None:
    """Without keys only this machine's names are accepted, against DNS rebinding by web pages."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise Problem(
            421,
            "host_not_allowed",
            "Host not allowed",
            "A server without API keys answers to localhost and loopback addresses alone; set LONGHAND_API_KEYS.",
        )


async def _read_body(headers: Headers, receive: Receive, stall_seconds: float) -> Receive:
    """Read the whole body, bounded in size and time; then a ``receive`` that replays it."""
    if int(headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise _body_too_large()
    body = bytearray()
    more = True
    try:
        async with asyncio.timeout(stall_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return _replay(message, receive)
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _body_too_large()
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem(
            408, "request_stalled", "Request stalled", f"The body was not complete after {stall_seconds:g} s."
        ) from None
    return _replay({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _replay(message: Message, receive: Receive) -> Receive:
    pending = [message]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _body_too_large() -> Problem:
    detail = f"The body of this request may hold {MAX_BODY_BYTES} bytes."
    return Problem(413, "body_too_large", "Body too large", detail)


def _with_headers(scope: Scope, send: Send) -> Send:
    """Adds headers of security, and how the tenant stands with its requests."""
    path = scope["path"]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if path.startswith(PAGES):
                headers["Content-Security-Policy"] = PAGES_POLICY
            elif path.startswith(PROTECTED):
                headers.setdefault("Cache-Control", "no-store")
                if path.startswith("/v1/uploads"):
                    headers["Tus-Resumable"] = VERSION
            for name, value in scope.get("state", {}).get("rate", {}).items():
                headers.setdefault(name, value)
        await send(message)

    return sending
