"""What a language model says about a transcript: sentences, each with the lines that it rests on.

A sentence that cites no line that the model was shown is a fault. Who asks decides whether to ask again; what is
still at fault then is left out, so that no sentence without a citation is ever kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.readings.lines import neutral

MOST_CITED = 24
MOST_CHARACTERS = 2000

NUMBER = re.compile(r"\d{1,9}")
CITATION = re.compile(r" ?\[\d+(?: ?[,–-] ?\d+)*\]")
"""Written into a sentence, whose white space is single."""


class Unreadable(Exception):
    """The answer has not the shape that was asked for. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence, and the numbers of lines that it cites, in order."""

    text: str
    cites: tuple[int, ...]

    @property
    def shown(self) -> str:
        """As one line of notes that are read again."""
        return f"[{', '.join(map(str, self.cites))}] {neutral(self.text)}"


def entry_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"text": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
        "required": ["text", "lines"],
        "additionalProperties": False,
    }


def list_schema() -> dict[str, Any]:
    return {"type": "array", "items": entry_schema()}


def object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_entries(
    answer: Any, field: str, known: Collection[int], faults: list[str], *, most: int | None = None
) -> list[Statement]:
    """The statements in a field that cite lines which are ``known``. Adds what is wrong to ``faults``.

    Raises Unreadable.
    """
    if field not in answer:
        faults.append(f"`{field}` is missing.")
        return []
    entries = answer[field]
    if not isinstance(entries, list):
        raise Unreadable(f"`{field}` is no list.")
    kept: dict[str, Statement] = {}
    for number, entry in enumerate(entries, 1):
        if (statement := read_entry(entry, f"{field} {number}", known, faults)) is not None:
            # small models say the same again and again
            kept.setdefault(statement.text, statement)
    return list(kept.values())[:most]


def read_entry(entry: Any, where: str, known: Collection[int], faults: list[str]) -> Statement | None:
    """The same of one statement; None if it rests on nothing."""
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise Unreadable(f"{where} is no object with `text` and `lines`.")
    text = _one_line(entry["text"])
    # the form repeated says nothing either
    if not any(character.isalnum() for character in text):
        return None
    cited = _cited(entry.get("lines"))
    there = tuple(sorted({number for number in cited if number in known}))[:MOST_CITED]
    if missing := [number for number in cited if number not in known]:
        faults.append(f"{where} cites {', '.join(map(str, missing[:5]))}, which is no line that you were shown.")
    elif not there:
        faults.append(f"{where} cites no line.")
    return Statement(text, there) if there else None


def _one_line(text: str) -> str:
    """Without control characters, which no database stores, and without citations written into it."""
    # an answer may be as long as it likes
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * MOST_CHARACTERS])
    return re.sub(CITATION, "", " ".join(printable.split())).strip()[:MOST_CHARACTERS]


def _cited(lines: Any) -> Sequence[int]:
    """Numbers, also as small models write them: ``"[12]"``, ``12``, ``["12", "13"]``."""
    if isinstance(lines, bool) or lines is None:
        return []
    if isinstance(lines, int):
        return [lines]
    if isinstance(lines, str):
        return [int(number) for number in NUMBER.findall(lines)]
    if isinstance(lines, list):
        return [number for each in lines if not isinstance(each, list) for number in _cited(each)]
    return []
