"""Requests to one server: how they are made, when they are made again, what their answers mean."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from longhand.errors import ApiError, LonghandError, Unreachable, WaitTimeout, error_of
from longhand.transport import Call, Transport

T = TypeVar("T")
Json = Mapping[str, Any]

IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")
PASSING = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)

MAX_WAIT_SECONDS = 120.0
"""A server that says to come back later than that is not asked again."""

MAX_PAUSE_SECONDS = 20.0
PAGE_SIZE = 100
MAX_POLL_SECONDS = 3.0


def path(*parts: object) -> str:
    """A path below ``/v1``, each part quoted: ids and names come from elsewhere."""
    quoted = (quote(str(part), safe="") for part in parts)
    # dots alone would be taken for steps through the path
    return "/".join(["/v1", *(part if part.strip(".") else part.replace(".", "%2E") for part in quoted)])


def pause(attempt: int, asked: float | None = None) -> float:
    """Seconds before the next attempt, counted from 1; not less than the server asked for."""
    jittered: float = random.uniform(0.5, 1) * min(MAX_PAUSE_SECONDS, 0.5 * 2**attempt)  # noqa: S311  (no secret)
    # jitter on top: clients that were refused together do not come back together
    return jittered if asked is None else asked + min(jittered, 2.0)


class Api:
    """One server, with the caller's key."""

    def __init__(self, transport: Transport, key: str | None, retries: int) -> None:
        self.transport, self.retries = transport, retries
        # bytes: what is no ASCII is for the server to refuse. A key read from a file may end in a line break
        self._headers: dict[str, Any] = {"Authorization": f"Bearer {key.strip()}".encode()} if key else {}

    def request(self, method: str, url: str, **arguments: Any) -> httpx.Request:
        """``arguments`` are httpx's. None among the parameters is left out."""
        headers = self._headers | dict(arguments.pop("headers", None) or {})
        given = arguments.pop("params", None)
        # httpx would replace a query in the URL itself
        params = {name: value for name, value in given.items() if value is not None} if given else None
        return self.transport.http.build_request(method, url, headers=headers, params=params, **arguments)

    async def send(
        self,
        make: Callable[[], httpx.Request],
        *,
        again: bool | None = None,
        stream: bool = False,
        redirect: bool = False,
    ) -> httpx.Response:
        """Send a request until it is answered. Raises ApiError or Unreachable, and LonghandError if redirected.

        ``again``: whether repeating it does no harm; by default what its method says. Only what was certainly not
        carried out is repeated otherwise. ``make`` is called for each attempt, as bodies are read but once.
        ``redirect``: whether the answer is to be one, which is not followed.
        """
        attempt = 0
        while True:
            attempt += 1
            request = make()
            harmless = request.method in IDEMPOTENT if again is None else again
            try:
                answer = await self.transport.send(request, stream=stream)
            except httpx.TransportError as error:
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                hopeless = isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
                if attempt > self.retries or hopeless or not (harmless or unsent):
                    raise self.unreachable(error) from error
                await self.transport.sleep(pause(attempt))
                continue
            if answer.is_success or (redirect and answer.has_redirect_location):
                return answer
            refused = await self._refused(answer, stream=stream)
            if request.method == "DELETE" and attempt > 1 and answer.status_code == HTTPStatus.NOT_FOUND:
                # an earlier attempt, whose answer was lost, has removed it
                return answer
            if attempt > self.retries or not _may_pass(refused, harmless=harmless):
                raise refused
            await self.transport.sleep(pause(attempt, refused.retry_after))

    async def _refused(self, answer: httpx.Response, *, stream: bool) -> ApiError:
        """Raises LonghandError for a redirect."""
        if stream:
            try:
                await self.transport.read(answer)
            except httpx.TransportError as error:
                raise self.unreachable(error) from error
            finally:
                await self.transport.release(answer)
        _check_redirect(answer)
        return error_of(answer)

    @asynccontextmanager
    async def streamed(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """An answer whose body is yet to be read; one attempt is made. Raises like :meth:`send`, and httpx's."""
        answer = await self.transport.send(request, stream=True)
        try:
            if not answer.is_success:
                await self.transport.read(answer)
                _check_redirect(answer)
                raise error_of(answer)
            yield answer
        finally:
            await self.transport.release(answer)

    def unreachable(self, error: Exception) -> Unreachable:
        url = _shown(self.transport.http.base_url)
        return Unreachable(f"{url} cannot be reached: {str(error) or type(error).__name__}.")

    async def call(
        self,
        method: str,
        url: str,
        *,
        again: bool | None = None,
        stream: bool = False,
        redirect: bool = False,
        **arguments: Any,
    ) -> httpx.Response:
        def make() -> httpx.Request:
            return self.request(method, url, **arguments)

        return await self.send(make, again=again, stream=stream, redirect=redirect)

    async def json(self, method: str, url: str, **arguments: Any) -> Any:
        return parse(await self.call(method, url, **arguments))

    async def pages(
        self,
        url: str,
        *,
        limit: int | None,
        cursor: str = "cursor",
        size: int = PAGE_SIZE,
        params: Json | None = None,
    ) -> AsyncGenerator[Any, None]:
        """The items of a list, ``limit`` at most, page by page. ``cursor`` is how its parameter is called."""
        after: str | None = None
        while limit is None or limit > 0:
            wanted = size if limit is None else min(limit, size)
            page = await self.json("GET", url, params={**(params or {}), "limit": wanted, cursor: after})
            for item in page["data"]:
                yield item
            if limit is not None:
                limit -= len(page["data"])
            after = page.get("next_cursor")
            if after is None:
                return

    async def until(
        self,
        fetch: Callable[[], Call[T]],
        done: Callable[[T], bool],
        timeout: float | None,
        what: str,
        on_progress: Callable[[T], object] | None = None,
    ) -> T:
        """Ask again and again, less and less often. Raises WaitTimeout after ``timeout`` seconds."""
        began, interval = time.monotonic(), 0.2
        while True:
            found = await fetch()
            if on_progress is not None:
                on_progress(found)
            if done(found):
                return found
            if timeout is not None and time.monotonic() - began + interval > timeout:
                raise WaitTimeout(f"{what} is not finished after {timeout:g} s; it goes on.")
            await self.transport.sleep(interval)
            interval = min(MAX_POLL_SECONDS, interval * 1.3)


def parse(answer: httpx.Response) -> Any:
    """The JSON of an answer. Raises LonghandError where there is none."""
    try:
        return answer.json()
    except ValueError as error:
        raise stranger(answer, "JSON") from error


def header(answer: httpx.Response, name: str) -> str:
    """A header that Longhand's answers have. Raises LonghandError."""
    if name not in answer.headers:
        raise stranger(answer, f"the header {name}")
    return str(answer.headers[name])


def _check_redirect(answer: httpx.Response) -> None:
    """Raises LonghandError: a request that was redirected has not been carried out."""
    if answer.next_request is not None:
        # a server that has moved keeps its paths
        asked, there = (
            _shown(request.url).removesuffix(answer.request.url.path)
            for request in (answer.request, answer.next_request)
        )
        raise LonghandError(f"{asked} redirects to {there}: give that as the URL.")


def _shown(url: httpx.URL) -> str:
    """Without what may be a credential."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def stranger(answer: httpx.Response, missing: str) -> LonghandError:
    """The error for an answer that Longhand does not give."""
    return LonghandError(f"{answer.request.url.host} is no Longhand server: it answered without {missing}.")


def _may_pass(error: ApiError, *, harmless: bool) -> bool:
    """Whether the same request may succeed soon."""
    # 429 says that nothing was done; after the others nobody knows
    harmless = harmless or error.status == HTTPStatus.TOO_MANY_REQUESTS
    return harmless and error.status in PASSING and is_soon(error)


def is_soon(error: ApiError) -> bool:
    """Whether the server may be asked again after a pause that is worth it."""
    return error.retry_after is None or error.retry_after <= MAX_WAIT_SECONDS
