"""How many uploads an API process takes at once, in all and of one tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem


class UploadSlots:
    """Belongs to the event loop: not thread-safe."""

    def __init__(self, total: int, per_tenant: int) -> None:
        self._total, self._per_tenant = total, per_tenant
        self._held: Counter[str] = Counter()

    @contextmanager
    def slot(self, tenant: str) -> Iterator[None]:
        """Raises Problem where none is free."""
        if self._held.total() >= self._total:
            raise _too_many(f"This server takes {self._total} uploads at once.")
        if self._held[tenant] >= self._per_tenant:
            raise _too_many(f"This server takes {self._per_tenant} uploads of one tenant at once.")
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._held[tenant] -= 1


def _too_many(limit: str) -> Problem:
    return Problem(
        429, "too_many_uploads", "Too many uploads", f"{limit} Try again shortly.", headers={"Retry-After": "5"}
    )
