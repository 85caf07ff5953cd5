"""What one reading of a chunk took out is not said by another, which may have misheard a digit of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from speech.text.redaction import digits
from speech.text.redaction.kinds import PLACEHOLDER, PersonalData, placeholders
from speech.text.script import is_cjk
from speech.text.words import Word, mean_confidence

MIN_DIGITS = 5
"""Fewer at the time of a number are not that number."""


def cover(words: Sequence[Word], other: Sequence[Word]) -> list[Word]:
    """The words with the placeholders of another reading, for digits and addresses that are still in them."""
    covered = list(words)
    for hidden in other:
        if not PLACEHOLDER.search(hidden.text):
            continue
        near = [at for at, word in enumerate(covered) if word.start < hidden.end and word.end > hidden.start]
        if near and not any(PLACEHOLDER.search(covered[at].text) for at in near):
            _cover(covered, near, hidden)
    return covered


def _cover(words: list[Word], near: Sequence[int], hidden: Word) -> None:
    kind = next(placeholders(hidden.text))
    if kind is PersonalData.EMAIL:
        shown = [at for at in near if hidden.start <= (words[at].start + words[at].end) / 2 <= hidden.end]
    else:
        found = {at: _digits(words[at].text) for at in near}
        shown = [at for at, count in found.items() if count]
        if sum(found.values()) < MIN_DIGITS:
            return
    if shown:
        part = words[shown[0] : shown[-1] + 1]
        punctuation = re.search(r"[^\w]*$", part[-1].text)
        placeholder = replace(
            part[0],
            text=kind.placeholder + (punctuation[0] if punctuation else ""),
            end=part[-1].end,
            confidence=mean_confidence(part),
            glued=part[0].glued or is_cjk(part[0].text[0]),
        )
        words[shown[0] : shown[-1] + 1] = [placeholder]


def _digits(text: str) -> int:
    return sum(len(token.digits) for run in digits.runs(text, digits.fold(text)) for token in run)
