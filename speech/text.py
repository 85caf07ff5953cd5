"""Pure functions on text: scripts without spaces, joining words, comparing words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from speech.words import Word

SENTENCE_END = ".!?…。！？"
CLAUSE_END = ",;:，、；："
ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "st.", "vs.", "prof.", "no.", "e.g.", "i.e.", "etc."}


def is_cjk(character: str) -> bool:
    """Han, kana and full-width forms, which take no spaces between words. (Hangul does.)"""
    code = ord(character)
    return 0x2E80 <= code <= 0x30FF or 0x31F0 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or (
        0xFF00 <= code <= 0xFFEF or 0x20000 <= code <= 0x3FFFF
    )


def width(text: str) -> int:
    """Columns on a screen: wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def join_words(words: Iterable[Word]) -> str:
    """Running text of timed words."""
    text = ""
    for word in words:
        together = word.glued or not text or (is_cjk(text[-1]) and is_cjk(word.text[0]))
        text += word.text if together else f" {word.text}"
    return text


def split_characters(word: Word) -> Iterator[Word]:
    """Han and kana one by one, punctuation with the character before it; any other word as it is."""
    if len(word.text) == 1 or not is_cjk(word.text[0]):
        yield word
        return
    parts: list[str] = []
    for character in word.text:
        if parts and not character.isalnum():
            parts[-1] += character
        else:
            parts.append(character)
    step = (word.end - word.start) / len(parts)
    for place, part in enumerate(parts):
        start = word.start + place * step
        yield Word(part, start, start + step, word.confidence, glued=word.glued or place > 0)


def normalise(text: str) -> str:
    """What two readings of a word have in common: no case, punctuation or full-width forms."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LNM")


def ends_sentence(word: str) -> bool:
    bare = word.rstrip("\"'”’)]」』")
    return bool(bare) and bare[-1] in SENTENCE_END and word.casefold() not in ABBREVIATIONS


def ends_clause(word: str) -> bool:
    return word[-1:] in CLAUSE_END


def ends_phrase(word: str) -> bool:
    return ends_clause(word) or ends_sentence(word)


def loops(words: Iterable[str], longest: int = 8, times: int = 5) -> bool:
    """Whether some run of up to ``longest`` words comes ``times`` times in a row, as decoders do when lost."""
    units = [unit for unit in map(normalise, words) if unit]
    for length in range(1, min(longest, len(units) // times) + 1):
        same = 0
        for unit, later in zip(units, units[length:], strict=False):
            same = same + 1 if unit == later else 0
            if same >= length * (times - 1):
                return True
    return False
