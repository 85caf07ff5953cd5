"""The words of a text as search compares them: without case and accents, in scripts without spaces as bigrams.

In the index each begins with a mark of its tenant, so that a search reads no further than the tenant's own words.

Every character of a run of such a script begins one lexeme: with the next character, or alone at the run's end. So
a text of two characters and more is found as a phrase of its bigrams, and a single character as their prefix.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

MAX_LEXEME = 100
"""Characters of a longer word that count."""

MAX_POSITION = 16383
"""PostgreSQL's; words behind it are found, though not as part of a phrase."""

UNSPACED_BLOCKS = (
    *((0x2E80, 0x30FF), (0x31F0, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),  # Han, kana
    *((0x1100, 0x11FF), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),  # Hangul: particles are written to the word
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Myanmar, Khmer
)


def _ranges(points: Iterable[int]) -> str:
    """Code points in order, as the inside of a character class."""
    spans: list[list[int]] = []
    for point in points:
        if spans and point == spans[-1][1] + 1:
            spans[-1][1] = point
        else:
            spans.append([point, point])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in spans)


def _letters(blocks: Iterable[tuple[int, int]], categories: str) -> str:
    return _ranges(
        point
        for first, last in sorted(blocks)
        for point in range(first, last + 1)
        if unicodedata.category(chr(point))[0] in categories
    )


UNSPACED = _letters(UNSPACED_BLOCKS, "LMN")
MARKS = _letters(((0x0300, 0x0DFF), (0x0F00, 0x0FFF), (0x1AB0, 0x1DFF), (0x20D0, 0x20FF)), "M")
"""Marks on letters, such as the vowels of Devanagari, which are no letters to ``re``."""

LETTER = rf"[^\W_{UNSPACED}]"
RUN = re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|{LETTER}+(?:[{MARKS}]+{LETTER}*)*")
ACCENTS = re.compile("[\u0300-\u036f]")


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A lexeme of a text, with its place among the lexemes, and that in the text."""

    text: str
    position: int
    start: int
    end: int
    unspaced: bool = False

    @property
    def is_end(self) -> bool:
        """Whether it is the single character that ends a run."""
        return self.unspaced and self.end == self.start + 1


@lru_cache(maxsize=50_000)
def fold(word: str) -> str:
    """A word without case, accents and full-width forms."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", word).casefold())
    return unicodedata.normalize("NFC", ACCENTS.sub("", decomposed))


def lexemes(text: str) -> Iterator[Lexeme]:
    """The lexemes of a text, in order."""
    position = 0
    for run in RUN.finditer(text):
        if run["unspaced"] is None:
            position += 1
            yield Lexeme(fold(run[0])[:MAX_LEXEME], position, run.start(), run.end())
            continue
        for start in range(run.start(), run.end()):
            position += 1
            end = min(start + 2, run.end())
            yield Lexeme(fold(text[start:end]), position, start, end, unspaced=True)


@lru_cache(maxsize=1000)
def mark(tenant: str) -> str:
    """What its lexemes begin with: four characters. Two tenants rarely have the same, and then share lists in the
    index, though no rows."""
    return urlsafe_b64encode(blake2b(tenant.encode(), digest_size=3).digest()).decode()


def quoted(lexeme: str) -> str:
    """As PostgreSQL reads it in a tsvector or tsquery."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def vector(text: str, tenant: str) -> str:
    """A text of a tenant as a tsvector, in PostgreSQL's notation."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for lexeme in lexemes(text):
        places[mark(tenant) + lexeme.text].append(min(lexeme.position, MAX_POSITION))
    return " ".join(f"{quoted(lexeme)}:{','.join(map(str, found))}" for lexeme, found in places.items())
