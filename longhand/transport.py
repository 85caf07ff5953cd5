"""The two ways to do what the client asks for: blocking, and in an event loop.

All else is written once, as coroutines. With :class:`Blocking` none of them ever suspends, so that they are run
by a single step and need no event loop.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Iterator
from typing import Any, TypeVar

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent

T = TypeVar("T")


class Transport(ABC):
    """Sends requests, and waits."""

    http: httpx.Client | httpx.AsyncClient

    @abstractmethod
    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The answer, whatever its status; with ``stream`` its body is yet to be read. Raises httpx.HTTPError."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def read(self, answer: httpx.Response) -> bytes: ...

    @abstractmethod
    def blocks(self, answer: httpx.Response) -> AsyncIterator[bytes]: ...

    @abstractmethod
    def events(self, answer: httpx.Response) -> AsyncIterator[ServerSentEvent]: ...

    @abstractmethod
    async def release(self, answer: httpx.Response) -> None:
        """Give back the connection of an answer that was streamed."""

    @abstractmethod
    async def close(self) -> None: ...


class Blocking(Transport):
    http: httpx.Client

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        return self.http.send(request, stream=stream)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # nothing else runs here

    async def read(self, answer: httpx.Response) -> bytes:
        return answer.read()

    async def blocks(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        for block in answer.iter_bytes():
            yield block

    async def events(self, answer: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        for event in EventSource(answer).iter_sse():
            yield event

    async def release(self, answer: httpx.Response) -> None:
        answer.close()

    async def close(self) -> None:
        self.http.close()


class Awaiting(Transport):
    http: httpx.AsyncClient

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        return await self.http.send(request, stream=stream)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def read(self, answer: httpx.Response) -> bytes:
        return await answer.aread()

    def blocks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        return answer.aiter_bytes()

    def events(self, answer: httpx.Response) -> AsyncIterator[ServerSentEvent]:
        return EventSource(answer).aiter_sse()

    async def release(self, answer: httpx.Response) -> None:
        await answer.aclose()

    async def close(self) -> None:
        await self.http.aclose()


def run(awaitable: Awaitable[T]) -> T:
    """The result of what never suspends."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("A coroutine of the blocking client was suspended.")


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of what never suspends."""
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())


Call = Coroutine[Any, Any, T]
