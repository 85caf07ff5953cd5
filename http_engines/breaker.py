"""A circuit breaker: whether to ask a host at all."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

MOST_FAILURES = 3
"""So many requests in a row may fail before the host is left alone."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 3.0
"""How long, at first and at most: a host that is back is noticed in seconds."""


class Breaker:
    """Of one host and model. Used from one thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._pauses = 0
        self._closed_until = 0.0
        self.away_since: float | None = None
        """When the first of the failures was, while the host is left alone."""
        self._first_failure = 0.0
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the host is to be left alone, but for a look at whether it is back."""
        return self.away_since is not None

    @property
    def may_look(self) -> bool:
        """Whether it is time for that look."""
        return self._now() >= self._closed_until

    def succeed(self) -> None:
        self._failures = self._pauses = 0
        self.away_since = None

    def look_succeeded(self) -> None:
        """The host answers again, which does not yet say that it works: one failure, and it is left alone."""
        self.away_since = None
        self._failures = MOST_FAILURES - 1

    def fail(self, reason: str, *, at_once: bool = False) -> None:
        """``at_once``: nothing listens there, or it has another model: more attempts would show nothing."""
        if self._failures == 0:
            self._first_failure = self._now()
        self._failures = MOST_FAILURES if at_once else self._failures + 1
        self.reason = reason
        if self._failures >= MOST_FAILURES:
            self._open()

    def pause(self, seconds: float) -> None:
        """The host asks for a pause: it is busy, not away."""
        self._closed_until = max(self._closed_until, self._now() + seconds)

    @property
    def is_paused(self) -> bool:
        return not self.is_open and self._now() < self._closed_until

    def _open(self) -> None:
        if self.away_since is None:
            self.away_since = self._first_failure
        longest = min(FIRST_PAUSE_SECONDS * 2.0**self._pauses, LONGEST_PAUSE_SECONDS)
        self._pauses = min(self._pauses + 1, 10)
        self._closed_until = self._now() + longest * random.uniform(0.5, 1)  # noqa: S311  (jitter)
