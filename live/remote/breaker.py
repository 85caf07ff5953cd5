"""A circuit breaker: a server that fails again and again is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed until calls fail in a row; then open for a while; then half-open: one call decides how it goes on."""

    def __init__(self, *, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures, self._seconds, self._clock = failures, seconds, clock
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probing = False

    def admits(self) -> bool:
        """Whether a call may be made now. Whoever is admitted says how it went."""
        if self._open_until is None:
            return True
        if self._probing or self._clock() < self._open_until:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """The server is there. Its failures are forgotten only once it has :meth:`succeeded`."""
        self._open_until, self._probing = None, False

    def succeeded(self) -> None:
        """It did what it is for."""
        self.answered()
        self._in_a_row = 0

    def abandoned(self) -> None:
        """The call was given up before it said anything."""
        self._probing = False

    def failed(self) -> None:
        self._in_a_row += 1
        self._probing = False
        if self._in_a_row >= self._failures:
            self._open_until = self._clock() + self._seconds
