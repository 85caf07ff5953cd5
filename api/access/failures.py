"""Failed logins, counted by address: who guesses is slowed down, and fills no memory."""

from __future__ import annotations

import time

from api.access.refusals import network_of
from api.problems import Problem

MAX_FAILURES = 30
WINDOW_SECONDS = 60.0
MAX_ADDRESSES = 10_000
"""Beyond, the oldest are forgotten. A library that counts in Redis would take a request to it for each guess."""


class Failures:
    """Of one process. A good credential is never counted, nor held up, whatever its neighbours send."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}
        """By network: when its window began, and the failures since."""

    def count(self, address: str) -> None:
        """Note a failure. Raises Problem once there were too many."""
        network, now = network_of(address) or "", time.monotonic()
        began, failures = self._counts.pop(network, (now, 0))
        if now - began > WINDOW_SECONDS:
            began, failures = now, 0
        self._counts[network] = began, failures + 1
        if len(self._counts) > MAX_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        if failures >= MAX_FAILURES:
            wait = max(1, round(WINDOW_SECONDS - (now - began)))
            raise Problem(
                429,
                "too_many_failures",
                "Too many failures",
                f"Too many invalid credentials came from this address; send a valid one, or wait {wait} s.",
                headers={"Retry-After": str(wait)},
            )
