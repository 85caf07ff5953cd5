"""Redis, where processes of the API count together. One that fails or hangs delays nobody for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_SECONDS = 0.5
"""Of a question to Redis, connecting and waiting for a connection included."""

PAUSE_SECONDS = 2.0
"""After a failure nobody asks for so long; then one request tries, the others go on without."""

MAX_CONNECTIONS = 16

PREFIX = "longhand"


class CountersAway(Exception):
    """Redis does not answer, or did not a moment ago."""


class Counters:
    """The connections of one process. For use on one event loop."""

    def __init__(self, redis_url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            redis_url,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            # a pooled connection may be that of a server since restarted
            retry=Retry(NoBackoff(), 1),
        )
        self.pool = pool
        self.redis = Redis(connection_pool=pool)
        self._closed_until = 0.0

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer of Redis. Raises CountersAway, at once after a failure."""
        now = time.monotonic()
        if now < self._closed_until:
            raise CountersAway
        if self._closed_until:
            # this one tries; the others go on without until it is known
            self._closed_until = now + PAUSE_SECONDS
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await question()
        except (RedisError, OSError) as error:
            self._closed_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("could not count in Redis: %s", str(error) or type(error).__name__)
            raise CountersAway from error
        self._closed_until = 0.0
        return answer

    async def close(self) -> None:
        await self.redis.aclose()
        await self.pool.disconnect()
