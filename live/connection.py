"""A websocket of a client: who it is, and the two directions of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.access.authenticate import unauthorized
from api.access.caller import Caller
from api.guard import check_host, take_token
from api.problems import Problem
from db.exposure import is_loopback
from live import metrics
from live.services import Services

logger = logging.getLogger(__name__)

FAILED = 1011
"""The close code of whatever went wrong; its reason is the error's code."""

MAX_REASON_BYTES = 120

MESSAGES_AT_ONCE = 32
"""That are taken of those that wait on one connection, before others have their turn."""


class ClientGone(Exception):
    """The connection is lost, or the client closed it."""


class Connection:
    """An accepted websocket. One task receives, another one sends."""

    def __init__(self, services: Services, websocket: WebSocket) -> None:
        self._services, self._websocket = services, websocket
        self._token = take_token(websocket.scope)
        self.query = websocket.query_params
        self._taken = 0
        self._stall_seconds = services.settings.stall_seconds

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._websocket.accept(subprotocol)

    @property
    def subprotocols(self) -> list[str]:
        """Those that the client offers."""
        return [*self._websocket.scope.get("subprotocols", ())]

    @property
    def has_credential(self) -> bool:
        return self._token is not None or "authorization" in self._websocket.headers

    async def authenticate(self, token: str | None = None) -> Caller:
        """The caller, by its header, its URL, or a token that it sent. Raises Problem."""
        headers = self._websocket.headers
        self._check_origin(headers)
        address = self._websocket.client.host if self._websocket.client else ""
        given = token if token is not None else self._token
        authorization = headers.get("authorization") if given is None else f"Bearer {given}"
        return await self._services.authenticator.caller(authorization, address)

    def require(self, caller: Caller) -> None:
        """Raises Problem once the caller's key is revoked or has expired."""
        if not self._services.authenticator.holds(caller):
            raise unauthorized("The key of this session works no more.")

    def _check_origin(self, headers: Headers) -> None:
        """A page of another site must not speak for whoever looks at it. Raises Problem."""
        host = headers.get("host", "")
        if self._services.authenticator.is_open:
            check_host(host)
        origin = headers.get("origin")
        if origin is None or origin in self._services.settings.live_origins:
            return
        page, here = _name(origin), _name(f"//{host}")
        # this machine has several names
        if page is None or here is None or (page != here and not (is_loopback(page) and is_loopback(here))):
            raise Problem(
                403,
                "origin_not_allowed",
                "Origin not allowed",
                f"Pages of {origin} may open no sessions here; LONGHAND_LIVE_ORIGINS names those that may.",
            )

    async def receive(self, seconds: float | None = None) -> str | bytes:
        """The next message. Raises ClientGone, also where none comes within ``seconds``."""
        self._taken += 1
        if self._taken % MESSAGES_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            if seconds is None:
                message = await self._websocket.receive()
            else:
                async with asyncio.timeout(seconds):
                    message = await self._websocket.receive()
        except TimeoutError:
            raise ClientGone("it sends nothing") from None
        except RuntimeError as error:
            raise ClientGone(str(error)) from None
        if message["type"] == "websocket.disconnect":
            raise ClientGone(f"closed with {message.get('code')}")
        text, data = message.get("text"), message.get("bytes")
        if data is not None:
            return bytes(data)
        return text or ""

    async def send(self, message: BaseModel, kind: str, since: float | None = None) -> None:
        """``since``: when there was something to tell. Raises ClientGone, also where the client does not read."""
        await self.send_text(message.model_dump_json(), kind, since)

    async def send_text(self, text: str, kind: str, since: float | None = None) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._websocket.send_text(text)
        except (TimeoutError, RuntimeError, OSError, WebSocketDisconnect) as error:
            raise ClientGone(str(error)) from None
        metrics.egress_events.labels(kind).inc()
        if since is not None:
            metrics.event_delay_ms.observe(1000 * (time.monotonic() - since))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Does not raise."""
        shown = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        with contextlib.suppress(TimeoutError, RuntimeError, OSError, WebSocketDisconnect):
            async with asyncio.timeout(self._stall_seconds):
                await self._websocket.close(code, shown)


def _name(address: str) -> str | None:
    """The host that an address names; None where it names none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


async def both(receive: Coroutine[Any, Any, None], send: Coroutine[Any, Any, None]) -> None:
    """Until one direction has ended, or the caller is cancelled; then both are. Raises what the first raised."""
    tasks = (asyncio.create_task(receive), asyncio.create_task(send))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
