"""Requests a minute of a tenant or a link, counted in Redis for all processes of the API."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import cast

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from api.access.counters import PREFIX, Counters, CountersAway
from api.problems import Problem

WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """How a tenant, or a link, stands after a request."""

    admitted: bool
    limit: int
    remaining: int
    reset: int
    """Seconds until there is room for more."""

    @property
    def headers(self) -> dict[str, str]:
        """Those of draft-ietf-httpapi-ratelimit-headers-06, whose names clients know; later drafts have others."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
            "RateLimit-Policy": f"{self.limit};w={WINDOW_SECONDS}",
        }


class Rates:
    """Limits of requests, in a window that slides: two numbers for each tenant, however high its limit."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        storage = RedisStorage(
            "redis://",  # the pool knows where
            implementation="redispy",
            key_prefix=f"{PREFIX}:rates",
            connection_pool=cast("str", counters.pool),  # its type omits what it passes on to the client
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def admit(self, who: str, limit: int, *, upload: bool) -> dict[str, str]:
        """Count a request; returns the headers of its answer. Raises Problem.

        While Redis is away reads pass without being counted, and uploads do not.
        """
        try:
            rate = await self._counters.ask(lambda: self._hit(who, limit))
        except CountersAway:
            if upload:
                raise _cannot_count() from None
            return {}
        if not rate.admitted:
            raise _too_many(rate)
        return rate.headers

    async def used(self, tenant: str, limit: int) -> int | None:
        """Requests of the last minute; None while Redis is away."""
        item = RateLimitItemPerMinute(limit)
        try:
            stats = await self._counters.ask(lambda: self._limiter.get_window_stats(item, tenant))
        except CountersAway:
            return None
        return limit - stats.remaining

    async def _hit(self, who: str, limit: int) -> Rate:
        item = RateLimitItemPerMinute(limit)
        admitted = await self._limiter.hit(item, who)
        stats = await self._limiter.get_window_stats(item, who)
        reset = max(0, math.ceil(stats.reset_time - time.time()))
        return Rate(admitted, limit, stats.remaining if admitted else 0, reset)


def _too_many(rate: Rate) -> Problem:
    wait = max(1, rate.reset)
    return Problem(
        429,
        "quota_requests",
        "Too many requests",
        f"There may be {rate.limit} requests a minute. Go on in {wait} s, and slower.",
        headers={"Retry-After": str(wait), **rate.headers},
    )


def _cannot_count() -> Problem:
    return Problem(
        503,
        "quota_unknown",
        "Quota unknown",
        "Requests of this tenant are limited and cannot be counted at the moment; try the upload again shortly.",
        headers={"Retry-After": "5"},
    )
