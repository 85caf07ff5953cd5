"""Numbers that were spelled out become digits (inverse text normalisation), word by timed word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cn2an
from text_to_num import Token, find_numbers

from speech.text.words import Word

SPELLED = frozenset({"en", "fr", "es", "pt", "de", "it", "nl"})
"""Languages whose numbers are sequences of words."""

CHINESE = frozenset({"zh", "yue"})
NUMERALS = frozenset("零〇一二两三四五六七八九十百千万亿点")
UNITS = frozenset("十百千万亿点")

PAUSE = 0.5
"""Seconds of silence between words that belong to two numbers."""


def with_digits(words: Sequence[Word], language: str | None) -> tuple[Word, ...]:
    """The words with their numbers in digits; a number is one word from its first to its last.

    ``twenty five`` becomes ``25`` and ``两千零二十六`` becomes ``2026``; a lone ``one`` stays.
    Languages whose numbers are not known here stay as they are.
    """
    if language in SPELLED:
        return _replaced(words, _spelled(words, language))
    if language in CHINESE:
        return _replaced(words, _chinese(words))
    return tuple(words)


Found = Iterator[tuple[int, int, str]]
"""First word, one past the last word, digits."""


def _replaced(words: Sequence[Word], found: Found) -> tuple[Word, ...]:
    result: list[Word] = []
    done = 0
    for first, end, digits in found:
        number = words[first:end]
        confidence = sum(word.confidence for word in number) / len(number)
        behind = re.search(r"[^\w]*$", number[-1].text)
        text = digits + (behind.group() if behind else "")
        result += words[done:first]
        result.append(Word(text, number[0].start, number[-1].end, confidence, number[0].glued))
        done = end
    return (*result, *words[done:])


@dataclass(frozen=True)
class _Spoken(Token):  # type: ignore[misc]
    """A word as the library wants to see it."""

    word: Word

    def text(self) -> str:
        return self.word.text.strip(".,;:!?\"'()").lower()

    def nt_separated(self, previous: Token) -> bool:
        """Punctuation and silence divide numbers."""
        assert isinstance(previous, _Spoken)  # noqa: S101  (all tokens are ours)
        before = previous.word
        return before.text[-1:] in ".,;:!?" or self.word.start - before.end > PAUSE


def _spelled(words: Sequence[Word], language: str) -> Found:
    for number in find_numbers([_Spoken(word) for word in words], language):
        yield number.start, number.end, number.text


def _chinese(words: Sequence[Word]) -> Found:
    """Runs of numerals with a unit among them, or longer than any that is a figure of speech."""
    place = 0
    while place < len(words):
        end = place
        while end < len(words) and set(words[end].text) <= NUMERALS and words[end].text:
            end += 1
        run = "".join(word.text for word in words[place:end])
        if end - place >= 2 and (digits := _digits(run)) is not None:
            yield place, end, digits
        place = max(end, place + 1)


def _digits(run: str) -> str | None:
    """A run of numerals as a number; None where it is a figure of speech."""
    if not UNITS & set(run):
        return _dictated(run) if len(run) >= 4 else None
    try:
        number = cn2an.cn2an(run.replace("〇", "零"), "smart")
    except ValueError:
        return None
    return str(int(number) if number == int(number) else number)


def _dictated(run: str) -> str:
    """Digits said one by one."""
    return "".join(str("零一二三四五六七八九".index(c.replace("〇", "零").replace("两", "二"))) for c in run)
