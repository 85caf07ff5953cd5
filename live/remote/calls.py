"""Streams to a stage, and what their ends mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar, cast

import grpc
from prometheus_client import Histogram

from live.stages import StageBusy, StageDead, StageError

Request = TypeVar("Request")
Response = TypeVar("Response")


class StageCall(Generic[Request, Response]):
    """One stream of requests and responses. Whatever ends it is a StageError."""

    def __init__(self, url: str, call: grpc.aio.StreamStreamCall[Request, Response]) -> None:
        self._url, self._call = url, call

    async def admitted(self) -> None:
        """Returns once the server's initial metadata has come. Raises StageBusy, StageDead."""
        async with self._ended():
            await self._call.initial_metadata()
            if self._call.done():
                raise asyncio.InvalidStateError

    async def send(self, request: Request) -> None:
        """Waits while the server does not keep up. Raises StageBusy, StageDead."""
        async with self._ended():
            await self._call.write(request)

    async def receive(self) -> Response | None:
        """The next response; None once the server has ended the stream well. Raises StageBusy, StageDead."""
        async with self._ended():
            response = await self._call.read()
        return None if response is grpc.aio.EOF else cast(Response, response)

    async def ask(self, request: Request, *, seconds: float) -> Response:
        """The response to a request, in a stream that has one for each. Raises StageBusy, StageDead."""
        async with in_time(self._url, seconds):
            await self.send(request)
            response = await self.receive()
        if response is None:
            raise StageDead(f"{self._url} ended the stream")
        return response

    async def done(self) -> None:
        """No more requests. Raises StageBusy, StageDead."""
        async with self._ended():
            await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()

    @asynccontextmanager
    async def _ended(self) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise stage_error(self._url, error.code(), error.details()) from error
        except asyncio.InvalidStateError as error:
            raise stage_error(self._url, await self._call.code(), await self._call.details()) from error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise StageDead(f"{self._url}: the stream was given up") from None


@contextmanager
def timed(latency_ms: Histogram) -> Iterator[None]:
    """Observes how long an answer takes."""
    began = time.perf_counter()
    yield
    latency_ms.observe(1000 * (time.perf_counter() - began))


@asynccontextmanager
async def in_time(url: str, seconds: float) -> AsyncIterator[None]:
    """Raises StageDead where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StageDead(f"{url} has not answered for {seconds:g} s") from error


def stage_error(url: str, code: grpc.StatusCode, details: str | None) -> StageError:
    """What the end of a call means for its session."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return StageBusy(f"{url} has as many sessions as it takes")
    return StageDead(f"{url}: {code.name}, {details or 'without details'}")


def is_cancelled() -> bool:
    """Whether the running task itself is being cancelled, rather than a call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
