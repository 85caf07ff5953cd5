"""Text as it may enter: one line, composed, and nothing that acts on what stands around it."""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Indic scripts and emoji are written."""

BREAKS = re.compile(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+")


def single_line(text: str) -> str:
    """NFC, without controls, line breaks, direction marks and lone surrogates; runs of white space become a space.

    A name with a line break would forge a subtitle, a direction mark would turn around what follows it.
    """
    if text.isascii() and text.isprintable():  # most words, at a fifth of the cost
        return " ".join(text.split())
    composed = unicodedata.normalize("NFC", BREAKS.sub(" ", text))
    return BREAKS.sub(" ", "".join(c for c in composed if c in JOINERS or _is_visible(c))).strip()


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn")
