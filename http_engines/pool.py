"""The hosts of one model: which one is asked, for how long, how often, and when nobody is."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

import httpx

from http_engines.breaker import Breaker
from http_engines.endpoints import Server
from http_engines.errors import Failed, InvalidEndpoints, Refused
from http_engines.look import State, headers_of, look, send
from http_engines.wire.question import Question, finite
from speech.engines import EngineAway

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 3.0
WAIT_SECONDS = 0.5
"""How long to wait for a look at hosts that are all away. Longer waits are for the queue, not for its workers."""

POLL_SECONDS = 0.1
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
"""A host may ask for more (``Retry-After``), and gets this much."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_REASON_BYTES = 4096
MISPLACED = (401, 403, 404, 405)
"""Not this request is at fault, but the key, the model or the address: all requests would be answered so."""

SAID = {State.AWAY: "does not answer", State.WRONG: "answers, and cannot serve it"}

PASSING = (408, 409, 425, 429)
"""Besides those of the server's own, the errors that may be gone the next time."""


class _Again(Exception):
    """An attempt failed, and another may not. ``misplaced``: any other request would have failed as well."""

    def __init__(self, reason: str, *, misplaced: bool = False) -> None:
        super().__init__(reason)
        self.misplaced = misplaced


class _Host:
    def __init__(self, url: str) -> None:
        self.url = url
        self.breaker = Breaker()
        self.under_way = 0
        self.noted = ""


class Pool:
    """Used in one event loop. ``patience``: seconds after which a model without any host is away for good."""

    def __init__(self, server: Server, client: httpx.AsyncClient, *, patience: float = 0.0) -> None:
        self._server, self._client, self._patience = server, client, patience
        self._hosts = [_Host(url) for url in server.hosts]
        self._freed = asyncio.Event()
        self._looks: dict[_Host, asyncio.Task[None]] = {}

    async def ask(self, question: Question[T], audio_seconds: float, late_at: float | None = None) -> T:
        """The answer of the least busy host, or of another after that. Raises EngineAway, Failed or Refused."""
        seconds = self._server.seconds_for(audio_seconds)
        give_up_at = time.monotonic() + self._server.seconds_in_all(audio_seconds)
        if late_at is not None:
            give_up_at = min(give_up_at, late_at)
        tried: list[_Host] = []
        failure: _Again | None = None
        while True:
            host = await self._host_with_room(tried, give_up_at, failure)
            host.under_way += 1
            try:
                return await self._attempt(host, question, seconds, give_up_at)
            except _Again as error:
                failure = error
            finally:
                host.under_way -= 1
                # whoever waits for room looks again
                self._freed.set()
                self._freed = asyncio.Event()
            tried.append(host)
            if len(tried) > self._server.retries:
                self._raise_unserved(failure)
            if all(other in tried or other.breaker.is_open for other in self._hosts):
                longest = FIRST_BACKOFF_SECONDS * 2 ** len(tried)
                await asyncio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311  (jitter)

    async def _host_with_room(self, tried: Sequence[_Host], give_up_at: float, failure: _Again | None) -> _Host:
        wait_until = time.monotonic() + WAIT_SECONDS
        while True:
            self._look_at_those_away()
            there = [host for host in self._hosts if not host.breaker.is_open]
            room = [
                host for host in there if not host.breaker.is_paused and host.under_way < self._server.concurrency
            ]
            if time.monotonic() >= give_up_at:
                self._raise_unserved(failure)
            if room:
                return min(room, key=lambda host: (tried.count(host), host.under_way, random.random()))  # noqa: S311
            if not there and time.monotonic() >= wait_until:
                self._raise_unserved(failure)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), POLL_SECONDS)

    def _raise_unserved(self, failure: _Again | None) -> NoReturn:
        """EngineAway if every host is left alone, and not for what became of this very request; else Failed."""
        since = [moment for host in self._hosts if (moment := host.breaker.away_since) is not None]
        if len(since) == len(self._hosts) and (failure is None or failure.misplaced):
            reasons = "; ".join(sorted({host.breaker.reason for host in self._hosts}))
            for_good = time.monotonic() - max(since) >= self._patience
            raise EngineAway(f"No host of {self._server.name} serves it: it {reasons}.", for_good=for_good)
        raise Failed(f"{self._server.name} {failure or 'had no room in time'}.")

    def _look_at_those_away(self) -> None:
        """Beside the requests: none waits for a host that hangs."""
        for host in self._hosts:
            if host.breaker.is_open and host.breaker.may_look and not self._is_looked_at(host):
                self._looks[host] = asyncio.create_task(self._look(host))

    def _is_looked_at(self, host: _Host) -> bool:
        return host in self._looks and not self._looks[host].done()

    async def _look(self, host: _Host) -> None:
        seen = await look(self._client, self._server, host.url)
        if seen.found != host.noted:
            # for operators; what callers are told names no host
            logger.warning("%s at %s: %s", self._server.name, host.url, seen.found)
            host.noted = seen.found
        if seen.state is State.OK:
            host.breaker.look_succeeded()
        else:
            host.breaker.fail(SAID[seen.state], at_once=True)

    async def _attempt(self, host: _Host, question: Question[T], seconds: float, give_up_at: float) -> T:
        """Raises _Again or Refused, and tells the host's breaker."""
        left = give_up_at - time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, left)):
                answer, body = await self._send(host, question, min(seconds, left))
        except InvalidEndpoints:
            raise self._misplaced(host, "has no key that can be used") from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise self._misplaced(host, "does not listen") from None
        except (httpx.TimeoutException, TimeoutError):
            # who has less patience than the operators says nothing about the host
            if left >= seconds:
                host.breaker.fail("was too slow")
            raise _Again("was too slow") from None
        except httpx.HTTPError as error:
            host.breaker.fail(f"broke off ({type(error).__name__})")
            raise _Again(host.breaker.reason) from None
        return self._understand(host, question, answer, body)

    def _misplaced(self, host: _Host, reason: str) -> _Again:
        host.breaker.fail(reason, at_once=True)
        return _Again(reason, misplaced=True)

    async def _send(self, host: _Host, question: Question[Any], seconds: float) -> tuple[httpx.Response, bytes]:
        request = self._client.build_request(
            "POST",
            host.url + question.path,
            headers=headers_of(self._server),
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            **question.arguments,
        )
        return await send(self._client, request, MAX_ANSWER_BYTES)

    def _understand(self, host: _Host, question: Question[T], answer: httpx.Response, body: bytes) -> T:
        """Raises _Again or Refused."""
        status, breaker = answer.status_code, host.breaker
        if status == 200:
            try:
                understood = question.read(json.loads(body, parse_float=finite, parse_constant=finite))
            except Exception:  # noqa: BLE001  (a stranger wrote it)
                breaker.fail("answered nonsense")
                raise _Again(breaker.reason) from None
            breaker.succeed()
            return understood
        said = f"answered {status}"
        if status in MISPLACED or 300 <= status < 400:
            raise self._misplaced(host, said)
        reason = body[:MAX_REASON_BYTES].decode(errors="replace")
        is_faulty = question.faulty is not None and question.faulty.search(reason)
        if (status not in PASSING and status < 500) or is_faulty:
            breaker.succeed()
            raise Refused(f"{self._server.name} {said} to a request, and would again", reason)
        if (pause := _retry_after(answer)) is not None:
            breaker.pause(min(pause, LONGEST_PAUSE_SECONDS))
        if status != 429:
            breaker.fail(said)
        raise _Again(said)


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds, of the header's number or date."""
    given = answer.headers.get("retry-after", "").strip()
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
