"""``GET /v1/models``: whether a host is there, and has the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import httpx

from http_engines.endpoints import Endpoints, Server
from http_engines.errors import InvalidEndpoints
from speech.text.cleaning import single_line

LOOK_SECONDS = 3.0
MAX_LIST_BYTES = 1024 * 1024
NO_SUCH_ROUTE = (404, 405, 501)


class State(StrEnum):
    OK = "ok"
    AWAY = "away"
    """Nobody answers."""
    WRONG = "wrong"
    """It answers, and cannot serve: another model, or a key that it does not take."""


@dataclass(frozen=True, slots=True)
class Seen:
    state: State
    found: str


def headers_of(server: Server) -> dict[str, str]:
    """Raises InvalidEndpoints."""
    key = server.key()
    # what is packed small could be large: an answer is read as it comes
    return {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})


async def send(client: httpx.AsyncClient, request: httpx.Request, most_bytes: int) -> tuple[httpx.Response, bytes]:
    """The answer and its body. Raises httpx.HTTPError, also for one that is longer."""
    answer = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > most_bytes:
                raise httpx.DecodingError("the answer is too long", request=request)
        return answer, bytes(body)
    finally:
        await answer.aclose()


async def look(client: httpx.AsyncClient, server: Server, host: str) -> Seen:
    """Does not raise. A server that does not list its models is taken at its word."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            url, headers = f"{host}/v1/models", headers_of(server)
            request = client.build_request("GET", url, headers=headers, timeout=LOOK_SECONDS)
            answer, body = await send(client, request, MAX_LIST_BYTES)
    except InvalidEndpoints as error:
        return Seen(State.WRONG, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        # what is wrong with a certificate stands in the text alone
        return Seen(State.AWAY, single_line(str(error))[:200] or type(error).__name__)
    if answer.status_code in (401, 403):
        return Seen(State.WRONG, "refuses the key")
    if answer.status_code in NO_SUCH_ROUTE:
        return Seen(State.OK, "answers, and does not list its models")
    if answer.status_code != 200:
        return Seen(State.AWAY, f"answers {answer.status_code}")
    try:
        names = {str(model["id"]) for model in json.loads(body)["data"]}
    except Exception:  # noqa: BLE001  (a stranger wrote it)
        return Seen(State.OK, "answers, and does not list its models")
    if server.served_name in names:
        return Seen(State.OK, "serves it")
    listed = ", ".join(single_line(name)[:80] for name in sorted(names)[:5]) or "nothing"
    return Seen(State.WRONG, f"has no {server.served_name}, but {listed}")


def survey(endpoints: Endpoints) -> dict[str, dict[str, Seen]]:
    """By the names of servers, what their hosts answer. Takes little more than LOOK_SECONDS."""
    return asyncio.run(_survey(endpoints.servers))


async def _survey(servers: Sequence[Server]) -> dict[str, dict[str, Seen]]:
    async with httpx.AsyncClient() as client:
        pairs = [(server, host) for server in servers for host in server.hosts]
        seen = await asyncio.gather(*(look(client, server, host) for server, host in pairs))
    found: dict[str, dict[str, Seen]] = {server.name: {} for server in servers}
    for (server, host), each in zip(pairs, seen, strict=True):
        found[server.name][host] = each
    return found
