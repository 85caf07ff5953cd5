"""SenseVoice's vocabulary: sentencepiece pieces, tags, and their text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TAG_PATTERN = re.compile(r"<\|(.*?)\|>")
BYTE_PATTERN = re.compile(r"<0x([0-9A-F]{2})>")
CONTROL_PIECES = {"<s>", "</s>"}
"""Pieces without text."""
UNKNOWN_TEXT = {"<unk>": " \u2047 "}
WORD_PREFIX = "\N{LOWER ONE EIGHTH BLOCK}"
"""How sentencepiece marks the space before a piece."""


@dataclass(frozen=True, slots=True)
class Token:
    """A decoded piece of the vocabulary: its start in seconds, and the network's posterior for it."""

    piece: str
    start: float
    confidence: float


def read_vocabulary(path: Path) -> list[str]:
    """The pieces by id, from lines of ``piece id``."""
    pairs = [line.rsplit(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    pieces = {int(pair[-1]): pair[0] if len(pair) == 2 else " " for pair in pairs}
    return [pieces[i] for i in range(len(pieces))]


def detokenize(pieces: Iterable[str]) -> str:
    """The text of sentencepiece pieces, including those for single bytes."""
    data = bytearray()
    for piece in pieces:
        byte = BYTE_PATTERN.fullmatch(piece)
        if byte:
            data.append(int(byte[1], 16))
        elif piece not in CONTROL_PIECES:
            data += UNKNOWN_TEXT.get(piece, piece).replace(WORD_PREFIX, " ").encode()
    return data.decode(errors="replace").removeprefix(" ")
