"""Word times for a corrected text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz.distance import Levenshtein

from speech.text.script import normalise, split_characters
from speech.text.words import Segment, Word


def retime(words: Sequence[Word], text: str, start: float, end: float) -> tuple[Word, ...]:
    """The words of a corrected text: unchanged ones keep their times, new ones share the time between them."""
    corrected = words_of(text)
    kept = _kept_words(words, corrected)
    retimed: list[Word] = []
    position = 0
    while position < len(corrected):
        if position in kept:
            word = kept[position]
            retimed.append(Word(corrected[position].text, word.start, word.end, 1.0, corrected[position].glued))
            position += 1
            continue
        next_kept = next((i for i in range(position, len(corrected)) if i in kept), len(corrected))
        gap_start = retimed[-1].end if retimed else start
        gap_end = max(kept[next_kept].start if next_kept in kept else end, gap_start)
        step = (gap_end - gap_start) / (next_kept - position)
        for i, word in enumerate(corrected[position:next_kept]):
            retimed.append(Word(word.text, gap_start + i * step, gap_start + (i + 1) * step, 1.0, word.glued))
        position = next_kept
    return tuple(retimed)


def reword(segment: Segment, text: str, language: str) -> Segment:
    """The segment in another language: its time stays, and the words share it."""
    spoken = [word.end for word in segment.words if word.end > segment.start]
    words = retime((), text, segment.start, min(max(spoken, default=segment.end), segment.end))
    return replace(segment, text=text, words=words, language=language)


def _kept_words(words: Sequence[Word], corrected: Sequence[Word]) -> dict[int, Word]:
    """For positions in the corrected text, the old word that is equal or was replaced one for one."""
    kept: dict[int, Word] = {}
    old = [normalise(word.text) for word in words]
    for block in Levenshtein.opcodes(old, [normalise(word.text) for word in corrected]):
        if block.tag == "equal" or block.src_end - block.src_start == block.dest_end - block.dest_start:
            positions = range(block.dest_start, block.dest_end)
            kept |= dict(zip(positions, words[block.src_start : block.src_end], strict=True))
    return kept


def words_of(text: str) -> list[Word]:
    """The words of a text, without times."""
    return [word for token in text.split() for word in split_characters(Word(token, 0.0, 0.0, 1.0))]
