"""How the words of training data are written, whatever model or person wrote them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from glin_profanity import Filter
from opencc import OpenCC

from speech.text.script import is_cjk, normalise, normalise_width


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to a text beyond tidying it. ``simplify``: traditional Chinese becomes simplified, in zh and
    yue. ``mask``: swear words become their first letter and asterisks."""

    simplify: bool = False
    mask: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cleaning:
        """Raises ValueError on names that are not known here, and on anything but true and false."""
        for name, value in data.items():
            if name not in cls.__slots__:
                raise ValueError(
                    f"There is no step of cleaning called {name!r}; there are {', '.join(cls.__slots__)}."
                )
            if not isinstance(value, bool):
                raise ValueError(f"The step of cleaning {name!r} is true or false, not {value!r}.")
        return cls(**data)


CHINESE = frozenset({"zh", "yue"})

# Letters, digits and the signs of numbers in full width, kana in half width. Full-width punctuation is not
# among them: it is how Chinese and Japanese are written.
ODD_WIDTH = re.compile("[\uff03-\uff06\uff0a\uff0b\uff0d-\uff19\uff1d\uff20-\uff3a\uff41-\uff5a\uff61-\uff9f]+")
CONTROL = re.compile(r"<\|[^|]*\|>")
"""What tokenizers read as an instruction: nobody may speak one into a training set."""
MARKS = re.compile(r"[,.;:!?，。；：！？、…]{2,}")
PASSES = 8
"""More than any text needs until nothing changes any more."""


def clean(text: str, language: str | None, cleaning: Cleaning) -> str:
    """One line of text in one way of writing. Cleaning what is clean changes nothing.

    Control and invisible characters and tokenizers' tags (``<|...|>``) go; Latin letters and digits take half
    width, punctuation follows the script before it, runs of it become one mark, and blanks between Han or kana
    go as they do in a transcript.
    """
    for _ in range(PASSES):
        # what a pass takes out can bring together what the next one composes or collapses
        tidied = _tidied(text, simplify=cleaning.simplify and language in CHINESE)
        if tidied == text:
            break
        text = tidied
    return masked(text, language) if cleaning.mask else text


def _tidied(text: str, *, simplify: bool) -> str:
    spaced = "".join(" " if c.isspace() else c for c in text)
    visible = "".join(c for c in spaced if unicodedata.category(c)[0] != "C")
    plain = unicodedata.normalize("NFC", CONTROL.sub("", visible))
    plain = ODD_WIDTH.sub(lambda run: unicodedata.normalize("NFKC", run[0]), plain)
    if simplify:
        plain = simplified(plain)
    line = ""
    for token in plain.split():
        token = "".join(normalise_width(piece) for piece in _pieces(token))
        together = not line or (is_cjk(line[-1]) and is_cjk(token[0]))
        line += token if together else f" {token}"
    return MARKS.sub(lambda run: _one_mark(run[0]), line)


def _pieces(token: str) -> list[str]:
    """Han and kana one by one, anything else in runs, each with the punctuation behind it."""
    pieces: list[str] = []
    for character in token:
        own = character.isalnum() and (not pieces or is_cjk(character) or is_cjk(pieces[-1][0]))
        if own or not pieces:
            pieces.append(character)
        else:
            pieces[-1] += character
    return pieces


def _one_mark(run: str) -> str:
    """The mark that a run of them stands for: a question before a cry, dots for dots, else the first."""
    for asked in "?？!！":
        if asked in run:
            return asked
    return "…" if set(run) <= set(".。…") else run[0]


def units(text: str) -> list[str]:
    """Words, where each character of Han or kana is one; punctuation alone is none."""
    spaced = "".join(f" {c} " if is_cjk(c) else c for c in text)
    return [unit for unit in spaced.split() if normalise(unit)]


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones; the words stay those of their region."""
    return str(_converter().convert(text)).translate(UNUSUAL)


@cache
def _converter() -> OpenCC:
    return OpenCC("t2s")


UNUSUAL = str.maketrans({"𠮶": "嗰"})
"""Cantonese "that": its simplified form is in the tables, but neither people nor models write it."""


def masked(text: str, language: str | None) -> str:
    """Swear words as their first letter and an asterisk for each other one; only whole words are.

    Chinese and Japanese words have no edges to go by, so there only the English ones among them are masked.
    """
    return _swearing(language).sub(lambda word: word[0][0] + "*" * (len(word[0]) - 1), text)


LISTS = {
    "de": ("german",),
    "es": ("spanish",),
    "fr": ("french",),
    "it": ("italian",),
    "ko": ("english", "korean"),
    "nl": ("dutch",),
    "pl": ("polish",),
    "pt": ("portuguese",),
    "ru": ("russian",),
}
"""Lists of swear words by language. English ones would find innocent words in other Latin scripts ("dick")."""


@cache
def _swearing(language: str | None) -> re.Pattern[str]:
    words: set[str] = Filter({"languages": list(LISTS.get(language or "", ("english",)))}).words
    # The lists' phrases are of innocent words ("tied up"), their other signs are of chat rooms ("sh!t").
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True) if word.isalpha())
    # Han, kana and Hangul beside a Latin word do not belong to it, and Hangul does not beside Hangul
    letter = "[^\\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    hangul = "[\uac00-\ud7af]"
    edges = f"(?<!{letter})(?!(?<={hangul}){hangul})(?:{alternatives})(?!{letter})(?!(?<={hangul}){hangul})"
    return re.compile(edges, re.IGNORECASE)
