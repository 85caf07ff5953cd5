"""The claims that a worker process holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from db.models import READING_STEPS
from db.queue.claims import Claim


class HeldClaims:
    """The claims that this process works on. Once stopped, it acquires no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._held: dict[int | None, Claim] = {}
        self._stopped = False

    def __iter__(self) -> Iterator[Claim]:
        with self._lock:
            return iter(list(self._held.values()))

    def acquire(self, claim: Callable[[bool], list[Claim]]) -> list[Claim]:
        """Call ``claim`` with whether it may claim steps that have failed before.

        A process holds at most one of those at a time: if it kills the process, no other loses an attempt with it.
        """
        with self._claiming:
            with self._lock:
                if self._stopped:
                    return []
                # readings are made elsewhere and take hours: they kill no process
                retries = all(
                    held.attempt == 1 or held.kind in READING_STEPS.values() for held in self._held.values()
                )
            claims = claim(retries)
            with self._lock:
                self._held |= {claimed.fence: claimed for claimed in claims}
            return claims

    def release(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._held.pop(claim.fence, None)

    @property
    def busy(self) -> bool:
        """Whether any are held, or are being acquired."""
        return bool(self._held) or self._claiming.locked()

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def stop_acquiring(self) -> None:
        with self._lock:
            self._stopped = True
