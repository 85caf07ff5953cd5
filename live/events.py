"""What a session tells, whatever shape its client wants it in."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from speech.text.script import join_words
from speech.text.words import Word


@dataclass(frozen=True, slots=True)
class Stored:
    """Samples that came, behind which a connection that goes on goes on, and those that are written."""

    received: int
    stored: int


@dataclass(frozen=True, slots=True)
class LanguageHeard:
    language: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class PartialHeard:
    utterance: int
    stable: tuple[Word, ...]
    unstable: tuple[Word, ...]
    end: float


@dataclass(frozen=True, slots=True)
class FinalHeard:
    """An utterance that had words."""

    seq: int
    """Counts the finals of the flow from 1."""
    utterance: int
    content: dict[str, Any]
    """``start``, ``end``, ``text``, ``words``, ``language``, ``confidence``."""


@dataclass(frozen=True, slots=True)
class UtteranceEmpty:
    """It was no speech, though there may have been partials."""

    utterance: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the client should know, and that does not end the session."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Flushed:
    """All that came before a flush is final."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing follows. ``error`` is the code of what went wrong, if anything did."""

    reason: str
    message: str = ""
    error: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


Event = Stored | LanguageHeard | PartialHeard | FinalHeard | UtteranceEmpty | Notice | Flushed | Ended


class Outbox:
    """Events on their way to one connection. A partial gives way to what follows it, so it never holds many."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Event]] = deque()
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        replaceable = (PartialHeard, Stored)
        if (
            self._events
            and isinstance(self._events[-1][1], replaceable)
            and type(self._events[-1][1]) is type(event)
        ):
            self._events.pop()
        self._events.append((time.monotonic(), event))
        self._news.set()

    async def get(self) -> tuple[float, Event]:
        """When it was put (monotonic seconds), and the next event."""
        while not self._events:
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()


def text_of(words: tuple[Word, ...]) -> str:
    return join_words(words)
