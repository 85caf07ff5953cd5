"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 240.0
"""Long enough for a busy machine, which takes several times as long as usual."""


def until(
    condition: Callable[[], T | None],
    description: str = "",
    *,
    seconds: float = LIMIT_SECONDS,
    despite: tuple[type[Exception], ...] = (),
) -> T:
    """Wait for the first true value of ``condition``, which may raise ``despite`` until then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := condition():
                return value
        except despite:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds:g} s: {description or condition.__qualname__}")
        time.sleep(0.02)


def avoid_midnight(seconds: float = 60.0) -> None:
    """Before a test that counts in days: wait for the next day if today (UTC) ends within ``seconds``."""

    def is_clear() -> bool:
        now = datetime.now(UTC)
        return (now + timedelta(seconds=seconds)).date() == now.date()

    until(is_clear, "a new day", seconds=seconds + LIMIT_SECONDS)
