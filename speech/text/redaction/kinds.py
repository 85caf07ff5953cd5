"""What is looked for, and how it looks once it is taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class PersonalData(StrEnum):
    """A kind of personal data. Where two overlap, the first of these wins."""

    ID = "id"
    """Numbers of Chinese resident ids, US social security and taxpayers, GB national insurance, and IBANs."""
    CARD = "card"
    """Payment cards."""
    EMAIL = "email"
    PHONE = "phone"

    @property
    def placeholder(self) -> str:
        return f"[{self.upper()}]"


RANK = {kind: rank for rank, kind in enumerate(PersonalData)}
PLACEHOLDER = re.compile("|".join(re.escape(kind.placeholder) for kind in PersonalData))


def placeholders(text: str) -> Iterator[PersonalData]:
    """The kinds that were taken out of a text, in order."""
    for match in PLACEHOLDER.finditer(text):
        yield PersonalData(match[0][1:-1].lower())


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data in a text, from one character to another."""

    kind: PersonalData
    start: int
    end: int


def most_specific(found: list[Found]) -> list[Found]:
    """Those that do not overlap, in order: by kind, then the longest, then the first."""
    chosen: list[Found] = []
    for each in sorted(found, key=lambda f: (RANK[f.kind], f.start - f.end, f.start)):
        if all(each.end <= other.start or each.start >= other.end for other in chosen):
            chosen.append(each)
    return sorted(chosen, key=lambda f: f.start)
