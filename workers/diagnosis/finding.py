"""What was found of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """``found`` is one sentence or less, ``advice`` what to do about it; no secret is in either."""

    check: str
    state: State
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, State.WARNING, found, advice)


def broken(check: str, found: str, advice: str) -> Finding:
    return Finding(check, State.BROKEN, found, advice)
