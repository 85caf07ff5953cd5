"""Limits on concurrent uploads, in total and for each tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem


class UploadSlots:
    """Not thread-safe: for use on the event loop alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[str] = Counter()

    @contextmanager
    def slot(self, tenant: str, most: int) -> Iterator[None]:
        """One of the tenant's, of which it has ``most``. Raises Problem if none is free."""
        if self._held.total() >= self._total:
            raise _too_many(f"This server takes {self._total} uploads at once.")
        if self._held[tenant] >= most:
            raise _too_many(f"This server takes {most} uploads of one tenant at once.")
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._held[tenant] -= 1


def _too_many(limit: str) -> Problem:
    return Problem(
        429, "too_many_uploads", "Too many uploads", f"{limit} Try again shortly.", headers={"Retry-After": "5"}
    )
