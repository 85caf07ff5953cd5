"""Digits as they are said and written: "one three eight", "double zero", "幺三八", "１３８", "1-3-8"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ENGLISH = {
    **{"zero": "0", "oh": "0", "o": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"},
}
TEENS = {
    **{"ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14"},
    **{"fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19"},
}
TENS = {
    **{"twenty": "2", "thirty": "3", "forty": "4", "fifty": "5", "sixty": "6", "seventy": "7", "eighty": "8"},
    "ninety": "9",
}
CHINESE = {numeral: str(value) for value, numeral in enumerate("零一二三四五六七八九")} | {
    **{"〇": "0", "○": "0", "幺": "1", "两": "2"}
}
SCALES = {"hundred": "00", "thousand": "000"}
"""As in "one eight hundred"."""
TIMES = {"double": 2, "triple": 3, "treble": 3}

DIGIT = rf"(?:{'|'.join(ENGLISH)})(?![a-z'’])"
TOKEN = re.compile(
    rf"(?<![a-z'’])(?:(?P<times>{'|'.join(TIMES)})[ -](?P<repeated>{DIGIT}|\d(?!\d))"
    rf"|(?P<tens>{'|'.join(TENS)})(?:[ -](?P<ones>{DIGIT}))?(?![a-z'’])"
    rf"|(?P<teen>{'|'.join(TEENS)})(?![a-z'’])"
    rf"|(?P<english>{DIGIT})(?: (?P<scale>hundred|thousand)(?![a-z]))?)"
    rf"|(?P<chinese>[{''.join(CHINESE)}])"
    r"|(?P<written>\d+)",
    re.IGNORECASE,
)
GAP = re.compile(r"(?:[\s,.\-/()]|(?<![a-z])(?:dash|hyphen|um|uh|er)(?![a-z])|[杠嗯呃啊])*", re.IGNORECASE)
"""What may stand between the digits of one number."""
MAX_GAP = 12
"""Characters of it."""

NO_NUMBER = re.compile(
    r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![,.]?\d)"  # an amount: 2,000,000
    r"|(?<![\d.+])\d+\.\d+(?!\.?\d)"  # a decimal
    r"|(?<!\d)\d{1,2}(?::\d{2}){1,2}(?!\d)"  # a time of day
    r"|(?<!\d)(?:19|20)\d\d([-/.])\d{1,2}\1\d{1,2}(?!\d)"  # dates
    r"|(?<!\d)\d{1,2}([-/.])\d{1,2}\2(?:19|20)\d\d(?!\d)"
)
"""Digits that are part of no number of the kinds that are looked for."""

MIN_SPELLED = 3
"""Single digits in a row that are digits, and not a "one" in a sentence."""


@dataclass(frozen=True, slots=True)
class Token:
    """Digits that were written as one, or said with one word, at characters of the text."""

    digits: str
    start: int
    end: int
    spoken: bool

    @property
    def single(self) -> bool:
        return self.spoken or len(self.digits) == 1


Run = Sequence[Token]
"""Tokens that may be the digits of one number: nothing but a gap is between two of them."""


def fold(text: str) -> str:
    """The text in half width and with plain hyphens, as many characters long."""
    return "".join(map(_fold, text))


def _fold(character: str) -> str:
    if character.isascii() or "\u4e00" <= character <= "\u9fff":
        return character
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    if unicodedata.category(character) == "Pd":
        return "-"
    if character == "、":
        return ","
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 else character


def runs(text: str, folded: str) -> list[Run]:
    """All digits of a text, in order."""
    # as it was written: nobody divides thousands with a full-width comma
    excluded = [match.span() for match in NO_NUMBER.finditer(text)]
    found: list[list[Token]] = []
    for token in _tokens(folded):
        if any(start < token.end and token.start < end for start, end in excluded):
            continue
        if found and _continues(folded[found[-1][-1].end : token.start]):
            found[-1].append(token)
        else:
            found.append([token])
    return list(found)


def _continues(between: str) -> bool:
    return len(between) <= MAX_GAP and GAP.fullmatch(between) is not None


def _tokens(folded: str) -> Iterator[Token]:
    for match in TOKEN.finditer(folded):
        said = {name: value.lower() for name, value in match.groupdict().items() if value}
        if times := said.get("times"):
            repeated = said["repeated"]
            digits = ENGLISH.get(repeated, repeated) * TIMES[times]
        elif tens := said.get("tens"):
            digits = TENS[tens] + ENGLISH.get(said.get("ones", ""), "0")
        elif teen := said.get("teen"):
            digits = TEENS[teen]
        elif english := said.get("english"):
            digits = ENGLISH[english] + SCALES.get(said.get("scale", ""), "")
        else:
            digits = CHINESE.get(match[0], match[0])
        yield Token(digits, match.start(), match.end(), "written" not in said)


@dataclass(frozen=True, slots=True)
class View:
    """A text with digits for what was spelled out. Each of its characters has its place in the text itself."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where characters of the view are in the text."""
        return self.starts[start], self.ends[end - 1]


def view(folded: str, found: Sequence[Run]) -> View:
    """Rows of single digits become digits without anything between them; all else stays as it is."""
    pieces: list[tuple[str, int, int]] = []
    done = 0
    for run in found:
        for row in _spelled(folded, run):
            pieces += [(folded[at], at, at + 1) for at in range(done, row[0].start)]
            pieces += [(digit, token.start, token.end) for token in row for digit in token.digits]
            done = row[-1].end
    pieces += [(folded[at], at, at + 1) for at in range(done, len(folded))]
    return View("".join(text for text, *_ in pieces), [p[1] for p in pieces], [p[2] for p in pieces])


def _spelled(folded: str, run: Run) -> Iterator[list[Token]]:
    """Rows of single digits with no more than a blank or a hyphen between them."""
    row: list[Token] = []
    for token in run:
        if row and not (token.single and folded[row[-1].end : token.start] in ("", " ", "-")):
            yield from _long_enough(row)
            row = []
        if token.single:
            row.append(token)
    yield from _long_enough(row)


def _long_enough(row: list[Token]) -> Iterator[list[Token]]:
    if sum(len(token.digits) for token in row) >= MIN_SPELLED:
        yield row
