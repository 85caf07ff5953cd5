"""A request to a model, as it is put to whichever host has room."""

from __future__ import annotations

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
    """Of the answer's JSON. Raises ValueError, KeyError, TypeError, IndexError or AttributeError for nonsense."""
