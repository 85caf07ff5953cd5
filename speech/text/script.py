"""Pure functions on text: scripts, punctuation, joining and comparing words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from rapidfuzz.distance import Levenshtein

from speech.text.words import Word

SENTENCE_END = ".!?…。！？"
CLAUSE_END = ",;:，、；："
ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "st.", "vs.", "prof.", "no.", "e.g.", "i.e.", "etc."}


def is_cjk(character: str) -> bool:
    """Han, kana and full-width forms, which take no spaces between words. (Hangul does.)"""
    code = ord(character)
    return (
        0x2E80 <= code <= 0x30FF
        or 0x31F0 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or (0xFF00 <= code <= 0xFFEF or 0x20000 <= code <= 0x3FFFF)
    )


def has_cjk(text: str) -> bool:
    return not text.isascii() and any(map(is_cjk, text))


def display_width(text: str) -> int:
    """Columns on a screen: wide characters take two, marks on a letter and invisible joiners none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def space_between(before: str, word: Word) -> bool:
    """Whether a space stands between a text and the word that follows it."""
    return not word.glued and not (is_cjk(before[-1]) and is_cjk(word.text[0]))


def join_words(words: Iterable[Word]) -> str:
    """The text of words, with spaces where the script has them."""
    text = ""
    for word in words:
        if word.text:
            text += f" {word.text}" if text and space_between(text, word) else word.text
    return text


def split_characters(word: Word) -> Iterator[Word]:
    """Han and kana as single characters with their punctuation; any other word unchanged."""
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
    for position, part in enumerate(parts):
        start = word.start + position * step
        yield Word(part, start, start + step, word.confidence, glued=word.glued or position > 0)


def normalise(text: str) -> str:
    """A word for comparison: without case, punctuation and full-width forms."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LNM")


def likeness(left: Iterable[Word], right: Iterable[Word]) -> float:
    """Of two readings, from 0 to 1: what part of the words is the same in both, in order."""
    return Levenshtein.normalized_similarity(
        *([normalise(word.text) for word in words] for words in (left, right))
    )


SCRIPTS = {
    "zh": "\u3400-\u4dbf\u4e00-\u9fff",
    "yue": "\u3400-\u4dbf\u4e00-\u9fff",
    "ja": "\u3040-\u30ff\u4e00-\u9fff",
    "ko": "\uac00-\ud7af\u1100-\u11ff",
    "ru": "\u0400-\u04ff",
    "uk": "\u0400-\u04ff",
    "bg": "\u0400-\u04ff",
    "el": "\u0370-\u03ff",
    "ar": "\u0600-\u06ff",
    "fa": "\u0600-\u06ff",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "th": "\u0e00-\u0e7f",
}
"""Character ranges of the languages that are not written in Latin script."""
LATIN = "A-Za-z\u00c0-\u024f"
MIN_LETTERS = 12
"""A shorter text says too little about its script."""
MIN_OWN_SCRIPT_SHARE = 0.15
"""With a smaller share of its own letters, a text is not code-switching but in another language."""


def is_wrong_script(text: str, language: str | None) -> bool:
    """Whether a text of some length is clearly not written in the script of its language."""
    letters = [c for c in text if c.isalpha()]
    if language is None or len(letters) < MIN_LETTERS:
        return False
    own = re.compile(f"[{SCRIPTS.get(language, LATIN)}]")
    others = "".join(SCRIPTS.values()) if language not in SCRIPTS else LATIN
    other = re.compile(f"[{others}]")
    if sum(bool(own.match(c)) for c in letters) >= MIN_OWN_SCRIPT_SHARE * len(letters):
        return False
    # text in a third script (Georgian, for example) is not judged
    return sum(bool(other.match(c)) for c in letters) > len(letters) / 2


FULL_WIDTH = str.maketrans({",": "，", "?": "？", "!": "！", ":": "：", ";": "；"})
HALF_WIDTH = {code + 0xFEE0: code for code in range(0x30, 0x7B) if chr(code).isalnum()}


def normalise_script(text: str) -> str:
    """A word with Latin letters and digits in half width, punctuation after Han or kana in full width.

    A full stop between digits and in Latin words stays as it is.
    """
    half_width = text.translate(HALF_WIDTH)
    core = half_width.rstrip(",?!:;.")
    tail = half_width[len(core) :]
    if tail and core and is_cjk(core[-1]) and core[-1].isalnum():
        return core + tail.translate(FULL_WIDTH).replace(".", "。")
    return half_width


def ends_sentence(word: str) -> bool:
    bare = word.rstrip("\"'”’)]」』")
    return bool(bare) and bare[-1] in SENTENCE_END and word.casefold() not in ABBREVIATIONS


def ends_clause(word: str) -> bool:
    return word[-1:] in CLAUSE_END


def ends_phrase(word: str) -> bool:
    return ends_clause(word) or ends_sentence(word)
