"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

LIMIT = 240.0
"""Seconds after which something is broken and not merely slow: a busy machine takes several times its usual."""


def until(
    condition: Callable[[], T | None],
    what: str = "",
    *,
    seconds: float = LIMIT,
    despite: tuple[type[Exception], ...] = (),
) -> T:
    """The first true value of a condition, which may raise meanwhile what is named."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except despite:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds:g} s: {what or condition.__qualname__}")
        time.sleep(0.02)


def clear_of_midnight(seconds: float = 60.0) -> None:
    """Begin a test that counts in days only if today (in UTC) lasts so much longer."""

    def clear() -> bool:
        now = datetime.now(UTC)
        return (now + timedelta(seconds=seconds)).date() == now.date()

    until(clear, "a new day", seconds=seconds + LIMIT)
