"""A clock that can be wrong, for Python code that is imported after this in a process that is told a file.

What passes on it is right: only ``datetime.now`` and ``time.time`` are off, by the seconds that the file holds.
"""

from __future__ import annotations

import datetime
import os
import time
from datetime import datetime as RightDatetime
from pathlib import Path
from typing import Any

VARIABLE = "LONGHAND_TEST_CLOCK"

_real_time = time.time


def _seconds() -> float:
    return float(Path(os.environ[VARIABLE]).read_text() or 0)


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, RightDatetime)


class _WrongDatetime(RightDatetime, metaclass=_Kind):
    __slots__ = ()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return RightDatetime.now(tz) + datetime.timedelta(seconds=_seconds())


if VARIABLE in os.environ:
    datetime.datetime = _WrongDatetime  # type: ignore[misc]
    time.time = lambda: _real_time() + _seconds()
