"""A transcript as numbered lines, and how much of it a language model takes at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

BYTES_PER_TOKEN = 3
"""Fewer than tokenizers make of European languages (about four), and a token for each character of Chinese."""

LONGEST_LINE_BYTES = 3000


def count_tokens(text: str) -> int:
    """An estimate from above."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


class Numbered(Protocol):
    """What is put before the model: it cites what it was shown, by these numbers."""

    @property
    def cites(self) -> Sequence[int]: ...

    @property
    def shown(self) -> str: ...


N = TypeVar("N", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Line:
    """One segment. Numbers count from 1, in order of time."""

    number: int
    segment: int
    """The segment's index."""
    start: float
    version: int
    speaker: str | None
    text: str

    @property
    def cites(self) -> Sequence[int]:
        return (self.number,)

    @property
    def shown(self) -> str:
        who = f"{neutral(self.speaker)}: " if self.speaker else ""
        return f"[{self.number}] {who}{neutral(self.text)}"


def make_lines(segments: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Line]:
    """Of segments in order of time, as JSON; those without words are left out. ``names`` by speakers' labels."""
    spoken = [segment for segment in segments if segment["text"].strip()]
    return [
        Line(
            number,
            segment["index"],
            segment["start"],
            segment["version"],
            names.get(segment["speaker"], segment["speaker"]),
            segment["text"],
        )
        for number, segment in enumerate(spoken, 1)
    ]


def neutral(text: str) -> str:
    """In one line, of bounded length, and without what could look like the end of the transcript."""
    text = " ".join(text.split()).replace("<", "‹").replace(">", "›")
    data = text.encode()
    return text if len(data) <= LONGEST_LINE_BYTES else data[:LONGEST_LINE_BYTES].decode(errors="ignore") + "…"


def show(lines: Sequence[Numbered]) -> str:
    return "\n".join(line.shown for line in lines)


def fit(lines: Sequence[N], tokens: int) -> list[list[N]]:
    """Parts in order of no more than so many tokens each, as even as that allows; a line is never divided."""
    sizes = [count_tokens(line.shown) + 1 for line in lines]
    count = max(1, math.ceil(sum(sizes) / max(tokens, 1)))
    target = sum(sizes) / count
    parts: list[list[N]] = [[]]
    used = 0
    for line, size in zip(lines, sizes, strict=True):
        if parts[-1] and (used + size > tokens or used >= target):
            parts.append([])
            used = 0
        parts[-1].append(line)
        used += size
    return [part for part in parts if part]
