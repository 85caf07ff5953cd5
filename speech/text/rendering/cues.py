"""Cues of readable length and speed: what subtitles show, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from speech.text.rendering.words import timed_words
from speech.text.script import (
    display_width,
    ends_clause,
    ends_phrase,
    ends_sentence,
    has_cjk,
    is_cjk,
    join_words,
    space_between,
)
from speech.text.words import Segment, Word

MAX_COLUMNS = 42
MAX_COLUMNS_CJK = 32
"""Sixteen wide characters."""

MIN_START_INTERVAL_SECONDS = 0.4
"""Between the starts of two cues."""
CUE_GAP_SECONDS = 0.08
"""Two frames of film between cues: without a gap, viewers miss the change."""
CLAUSE_COLUMNS = 6
"""Columns by which lines may differ more in length if the first ends with a clause."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How much a cue holds, in columns (a wide character takes two) and lines, and for how many seconds.

    Where people talk without a pause, a cue makes room for the next one before it has been shown for
    ``min_duration``, or for as long as ``max_reading_speed`` (columns a second) asks for.
    """

    max_line_width: int | None = None
    """None for 42, or 32 in cues that hold Chinese or Japanese."""
    max_lines: int = 2
    max_reading_speed: float = 17.0
    min_duration: float = 1.0
    max_duration: float = 7.0
    speaker_names: bool = True

    def line_width(self, *, cjk: bool) -> int:
        return self.max_line_width or (MAX_COLUMNS_CJK if cjk else MAX_COLUMNS)

    def indent(self, speaker: str | None) -> int:
        """Columns that a name takes from the first line: not more than half of it, however long the name is."""
        return min(display_width(f"{speaker}: "), self.line_width(cjk=True) // 2) if speaker else 0


DEFAULT_LAYOUT = Layout()


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines of words that are shown from ``start`` to ``end`` seconds."""

    start: float
    end: float
    words: tuple[tuple[Word, ...], ...]
    """Of each line. The first has none where the name of the speaker fills it."""
    speaker: str | None

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(join_words, self.words))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one cue shows."""

    words: tuple[Word, ...]
    speaker: str | None
    indent: int

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


def make_cues(
    segments: Sequence[Segment],
    layout: Layout = DEFAULT_LAYOUT,
    *,
    names_in_lines: bool = False,
    duration: float | None = None,
) -> list[Cue]:
    """Cues without overlap, divided at the ends of sentences and clauses where possible.

    ``duration``: of the recording; behind its end, what was said is shown no longer. ``names_in_lines``: names are
    to stand before the text of the first line, which leaves them room.
    """
    parts = [part for segment in segments for part in _divide(segment, layout, names_in_lines)]
    parts = _join_short(sorted(parts, key=lambda part: part.start), layout)
    # cues of people who begin to talk at once are shown one after the other
    starts = list(accumulate((part.start for part in parts), lambda a, b: max(b, a + MIN_START_INTERVAL_SECONDS)))
    cues = []
    for part, start, next_start in zip(parts, starts, [*starts[1:], math.inf], strict=False):
        lines = _wrap(part.words, layout, part.indent)
        columns = part.indent + sum(display_width(join_words(line)) for line in lines)
        readable = max(layout.min_duration, columns / layout.max_reading_speed)
        end = min(max(part.end, start + readable), start + layout.max_duration)
        if duration is not None:
            end = min(end, max(duration, part.end, start + layout.min_duration))
        # share the time until the next cue
        end = min(end, max(next_start - CUE_GAP_SECONDS, (start + next_start) / 2))
        cues.append(Cue(start, end, lines, part.speaker if layout.speaker_names else None))
    return cues


def _divide(segment: Segment, layout: Layout, names_in_lines: bool) -> Iterator[_Part]:
    """The parts of a segment. They end with a sentence or a clause if one ends in the second half of what fits."""
    indent = layout.indent(segment.speaker) if names_in_lines and layout.speaker_names else 0
    words = _breakable(timed_words(segment), layout, indent)
    begin = 0
    while begin < len(words):
        end = begin + _count_fitting(words[begin:], layout, indent)
        if end < len(words):
            second_half = range(end, begin + (end - begin + 1) // 2 - 1, -1)
            by_sentence = (i for i in second_half if ends_sentence(words[i - 1].text))
            by_clause = (i for i in second_half if ends_clause(words[i - 1].text))
            end = next(by_sentence, None) or next(by_clause, end)
        yield _Part(tuple(words[begin:end]), segment.speaker, indent)
        begin = end


def _breakable(words: Iterator[Word], layout: Layout, indent: int) -> list[Word]:
    """Words between which a line may end, none wider than a line."""
    whole: list[Word] = []
    for word in words:
        if whole and word.glued and not is_cjk(word.text[0]):
            whole[-1] = replace(whole[-1], text=whole[-1].text + word.text, end=word.end)
        else:
            whole.append(word)
    beside_name = indent if layout.max_lines == 1 else 0
    return [
        piece for word in whole for piece in _cut(word, layout.line_width(cjk=has_cjk(word.text)) - beside_name)
    ]


def _cut(word: Word, width: int) -> Iterator[Word]:
    """The word in pieces of at most so many columns. Marks stay with their letter."""
    if display_width(word.text) <= width:
        yield word
        return
    pieces, columns = [""], 0
    for character in word.text:
        own = display_width(character)
        if columns + own > width:
            pieces.append("")
            columns = 0
        pieces[-1] += character
        columns += own
    step = (word.end - word.start) / len(pieces)
    for place, text in enumerate(pieces):
        start = word.start + place * step
        yield replace(word, text=text, start=start, end=start + step, glued=word.glued or place > 0)


def _join_short(parts: Sequence[_Part], layout: Layout) -> list[_Part]:
    """Parts that would be shown too briefly, with what the same person says just before or after."""
    joined: list[_Part] = []
    next_starts = [*(part.start for part in parts[1:]), math.inf]
    for part, next_start in zip(parts, next_starts, strict=False):
        if joined and joined[-1].speaker == part.speaker:
            last = joined[-1]
            shown = min(part.start - last.start, next_start - part.start) - CUE_GAP_SECONDS
            words = last.words + part.words
            close = part.start - last.end < layout.min_duration
            if close and shown < layout.min_duration and _count_fitting(words, layout, part.indent) == len(words):
                joined[-1] = replace(part, words=words)
                continue
        joined.append(part)
    return joined


def _count_fitting(words: Sequence[Word], layout: Layout, indent: int) -> int:
    """How many of the words, from the first on, one cue holds; at least one."""
    fitting = _count_within(words, layout, layout.line_width(cjk=False), indent)
    first_cjk = next((i for i in range(fitting) if has_cjk(words[i].text)), fitting)
    if first_cjk == fitting:
        return fitting
    return max(first_cjk, _count_within(words, layout, layout.line_width(cjk=True), indent))


def _count_within(words: Sequence[Word], layout: Layout, limit: int, indent: int) -> int:
    lines, columns = 1, indent
    for i, word in enumerate(words):
        width = display_width(word.text)
        space = i > 0 and space_between(words[i - 1].text, word)
        if width > limit:  # possible in a cue that is narrower for what else is in it
            return i
        if columns + space + width > limit:
            lines, columns = lines + 1, width
        else:
            columns += space + width
        if i > 0 and (lines > layout.max_lines or word.end - words[0].start > layout.max_duration):
            return i
    return len(words)


def _wrap(words: tuple[Word, ...], layout: Layout, indent: int) -> tuple[tuple[Word, ...], ...]:
    """As few lines as possible, of similar length."""
    limit = layout.line_width(cjk=any(has_cjk(word.text) for word in words))
    spaces = [0, *(space_between(before.text, word) for before, word in pairwise(words))]
    # where each word ends, were all in one line
    ends = [0, *accumulate(space + display_width(word.text) for space, word in zip(spaces, words, strict=True))]

    def width(first: int, last: int) -> int:
        return ends[last] - ends[first] - (spaces[first] if first < last else 0)

    def count_lines(first: int, indent: int) -> int:
        lines, begin = 1, first
        for i in range(first, len(words)):
            if width(begin, i + 1) + indent > limit:
                lines, begin, indent = lines + 1, i, 0
        return lines

    def imbalance(first: int, last: int, indent: int, remaining: int) -> float:
        bonus = CLAUSE_COLUMNS if last > first and ends_phrase(words[last - 1].text) else 0
        return abs(width(first, last) + indent - width(last, len(words)) / remaining) - bonus

    lines = []
    begin = 0
    for remaining in range(count_lines(0, indent) - 1, 0, -1):
        # the first line may be left to the name, if nothing fits beside it
        fitting = [i for i in range(begin + 1, len(words)) if width(begin, i) + indent <= limit] or [begin]
        costs = {i: imbalance(begin, i, indent, remaining) for i in fitting if count_lines(i, 0) <= remaining}
        end = min(costs, key=costs.__getitem__)
        lines.append(words[begin:end])
        begin, indent = end, 0
    return (*lines, words[begin:])
