"""Event streams of a tenant that are open at once, counted in Redis for all processes of the API."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.access.counters import PREFIX, Counters, CountersAway
from api.problems import Problem

LEASE_SECONDS = 30
"""A stream not renewed for so long is that of a process that died."""

RENEW_SECONDS = 10.0

RETRY_AFTER = 10

# A sorted set for each tenant: streams by the time at which they end unless renewed, by the clock of Redis.
OPEN = """
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[3])
    redis.call('EXPIRE', KEYS[1], ARGV[1])
    return 1
"""
RENEW = """
    local now = tonumber(redis.call('TIME')[1])
    for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
    redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
COUNT = "return redis.call('ZCOUNT', KEYS[1], redis.call('TIME')[1], '+inf')"


class StreamSlots:
    """The places of one process's streams. For use on the event loop alone."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._open = counters.redis.register_script(OPEN)
        self._renew = counters.redis.register_script(RENEW)
        self._count = counters.redis.register_script(COUNT)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @asynccontextmanager
    async def slot(self, tenant: str, limit: int | None) -> AsyncIterator[None]:
        """A place of a stream as long as it is open. Raises Problem if none is free.

        While Redis is away streams are not counted; those still open when it is back are.
        """
        if limit is None:
            yield
            return
        stream = uuid.uuid4().hex
        if not await self._admit(tenant, limit, stream):
            raise _too_many(limit)
        self._held[tenant].add(stream)
        try:
            yield
        finally:
            self._held[tenant].discard(stream)
            if not self._held[tenant]:
                del self._held[tenant]
            with contextlib.suppress(CountersAway):
                await self._counters.ask(lambda: self._counters.redis.zrem(_key(tenant), stream))

    async def used(self, tenant: str) -> int | None:
        """Streams that are open and counted; None while Redis is away."""
        try:
            return int(await self._counters.ask(lambda: self._count(keys=[_key(tenant)])))
        except CountersAway:
            return None

    async def _admit(self, tenant: str, limit: int, stream: str) -> bool:
        try:
            return bool(
                await self._counters.ask(
                    lambda: self._open(keys=[_key(tenant)], args=[LEASE_SECONDS, limit, stream])
                )
            )
        except CountersAway:
            return True

    async def _keep(self) -> None:
        """Renew all places for ever; also those that Redis has forgotten, or never heard of."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for tenant, streams in [(tenant, list(streams)) for tenant, streams in self._held.items()]:
                with contextlib.suppress(CountersAway):
                    await self._renew_all(tenant, streams)

    async def _renew_all(self, tenant: str, streams: list[str]) -> None:
        await self._counters.ask(lambda: self._renew(keys=[_key(tenant)], args=[LEASE_SECONDS, *streams]))


def _key(tenant: str) -> str:
    return f"{PREFIX}:streams:{tenant}"


def _too_many(limit: int) -> Problem:
    return Problem(
        429,
        "quota_event_streams",
        "Too many event streams",
        f"This tenant may have {limit} event streams open; close one, or come back when a job has ended.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
