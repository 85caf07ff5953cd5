"""Pure functions on text: scripts without spaces, joining words, comparing words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

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


def display_width(text: str) -> int:
    """Columns on a screen: wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def join_words(words: Iterable[Word]) -> str:
    """Running text of timed words."""
    text = ""
    for word in words:
        if not word.text:
            continue
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


def retime_words(words: Sequence[Word], text: str, start: float, end: float) -> tuple[Word, ...]:
    """The words of a corrected text: those that stayed keep their times, new ones share the time between."""
    wanted = [piece for token in text.split() for piece in _split_script(token)]
    old = [normalise(word.text) for word in words]
    kept: dict[int, Word] = {}
    for block in Levenshtein.opcodes(old, [normalise(piece.text) for piece in wanted]):
        if block.tag == "equal" or block.src_end - block.src_start == block.dest_end - block.dest_start:
            places = range(block.dest_start, block.dest_end)
            kept |= dict(zip(places, words[block.src_start : block.src_end], strict=True))
    found: list[Word] = []
    place = 0
    while place < len(wanted):
        if place in kept:
            word = kept[place]
            found.append(Word(wanted[place].text, word.start, word.end, 1.0, wanted[place].glued))
            place += 1
            continue
        last = next((i for i in range(place, len(wanted)) if i in kept), len(wanted))
        begin = found[-1].end if found else start
        until = max(kept[last].start if last in kept else end, begin)
        step = (until - begin) / (last - place)
        for i, piece in enumerate(wanted[place:last]):
            found.append(Word(piece.text, begin + i * step, begin + (i + 1) * step, 1.0, piece.glued))
        place = last
    return tuple(found)


def _split_script(token: str) -> list[Word]:
    return list(split_characters(Word(token, 0.0, 0.0, 1.0)))


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
"""The letters of languages that are not written in Latin ones."""
LATIN = "A-Za-z\u00c0-\u024f"
MIN_OWN_SCRIPT_SHARE = 0.15
"""Less of a language's own letters than this is not code-switching, it is another language."""


def is_wrong_script(text: str, language: str | None) -> bool:
    """Whether a text of some length is clearly not written in the script of its language."""
    letters = [c for c in text if c.isalpha()]
    if language is None or len(letters) < 12:
        return False
    own = re.compile(f"[{SCRIPTS.get(language, LATIN)}]")
    others = "".join(SCRIPTS.values()) if language not in SCRIPTS else LATIN
    strange = re.compile(f"[{others}]")
    if sum(bool(own.match(c)) for c in letters) >= MIN_OWN_SCRIPT_SHARE * len(letters):
        return False
    # languages of a third script (Georgian, say) are neither: nothing is said against them
    return sum(bool(strange.match(c)) for c in letters) > len(letters) / 2


FULL_WIDTH = str.maketrans({",": "，", "?": "？", "!": "！", ":": "：", ";": "；"})
HALF_WIDTH = {code + 0xFEE0: code for code in range(0x30, 0x7B) if chr(code).isalnum()}


def normalise_width(text: str) -> str:
    """One way to write a word: Latin and digits in half width, punctuation after Han or kana in full width.

    A full stop is left alone between digits and in Latin words.
    """
    plain = text.translate(HALF_WIDTH)
    core = plain.rstrip(",?!:;.")
    tail = plain[len(core) :]
    if tail and core and is_cjk(core[-1]) and core[-1].isalnum():
        return core + tail.translate(FULL_WIDTH).replace(".", "。")
    return plain


def ends_sentence(word: str) -> bool:
    bare = word.rstrip("\"'”’)]」』")
    return bool(bare) and bare[-1] in SENTENCE_END and word.casefold() not in ABBREVIATIONS


def ends_clause(word: str) -> bool:
    return word[-1:] in CLAUSE_END


def ends_phrase(word: str) -> bool:
    return ends_clause(word) or ends_sentence(word)


def is_repetitive(words: Iterable[str], longest: int = 8, times: int = 5) -> bool:
    """Whether some run of up to ``longest`` words comes ``times`` times in a row, as decoders do when lost."""
    units = [unit for unit in map(normalise, words) if unit]
    for length in range(1, min(longest, len(units) // times) + 1):
        same = 0
        for unit, later in zip(units, units[length:], strict=False):
            same = same + 1 if unit == later else 0
            if same >= length * (times - 1):
                return True
    return False
