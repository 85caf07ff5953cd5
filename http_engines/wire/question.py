"""A request to a model, as it is put to whichever host has room."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    path: str
    arguments: Mapping[str, Any]
    """Of ``httpx.AsyncClient.build_request``: ``json``, or ``data`` and ``files``."""
    read: Callable[[Any], T]
    """Of the answer's JSON. May raise anything for nonsense."""
    faulty: re.Pattern[str] | None = None
    """What an error names where this very request is at fault, whatever its status says."""


def finite(value: Any) -> float:
    """A number of an answer, or its text. Raises for what is none, and for those that no database stores."""
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{number} is no number")
    return number
