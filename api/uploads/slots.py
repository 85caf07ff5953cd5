"""Limits on concurrent uploads, in total and for each tenant."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.problems import Problem


class UploadSlots:
    """Not thread-safe: for use on the event loop alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[str] = Counter()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def slot(self, tenant: str, most: int, patience: float = 0.0) -> AsyncIterator[None]:
        """One of the tenant's, of which it has ``most``. Raises Problem where ``patience`` seconds bring none."""
        give_up_at = time.monotonic() + patience
        while (refusal := self._refusal(tenant, most)) is not None:
            if time.monotonic() >= give_up_at:
                raise refusal
            with suppress(TimeoutError):
                async with asyncio.timeout(give_up_at - time.monotonic()):
                    await self._released.wait()
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._held[tenant] -= 1
            # all who wait look again, and wait for the next one
            self._released.set()
            self._released = asyncio.Event()

    def _refusal(self, tenant: str, most: int) -> Problem | None:
        if self._held.total() >= self._total:
            return _too_many(f"This server takes {self._total} uploads at once.")
        if self._held[tenant] >= most:
            return _too_many(f"This server takes {most} uploads of one tenant at once.")
        return None


def _too_many(limit: str) -> Problem:
    return Problem(
        429, "too_many_uploads", "Too many uploads", f"{limit} Try again shortly.", headers={"Retry-After": "5"}
    )
