"""Subtitles of readable length and speed, as SubRip and WebVTT."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speech.text.script import display_width, ends_clause, ends_phrase, is_cjk, join_words
from speech.text.transcript import Transcript
from speech.text.words import Segment, Word

MAX_LINES = 2
MAX_COLUMNS = 42
MAX_COLUMNS_CJK = 32
"""Sixteen wide characters."""

MAX_CUE_SECONDS = 7.0
MIN_CUE_SECONDS = 1.0
MIN_START_INTERVAL_SECONDS = 0.4
"""Between the starts of two cues."""
READING_COLUMNS_PER_SECOND = 17.0

WORD_JOINER = "\u2060"
TAG_OR_TIME = re.compile(r"[<{]|--(?=>)|\d{1,2}:\d{1,2}:\d{1,2}(?=[.,]\d)")
CUE_GAP_SECONDS = 0.08
"""Two frames of film between cues: without a gap, viewers miss the change."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text shown from ``start`` to ``end`` seconds."""

    start: float
    end: float
    lines: tuple[str, ...]
    speaker: str | None


def subrip(transcript: Transcript) -> str:
    blocks = []
    for number, cue in enumerate(make_cues(transcript.segments), 1):
        lines = [_plain(line) for line in cue.lines]
        if cue.speaker:
            lines[0] = f"{_plain(cue.speaker)}: {lines[0]}"
        times = f"{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}"
        blocks.append("\n".join([str(number), times, *lines]) + "\n")
    return "\n".join(blocks)


def webvtt(transcript: Transcript) -> str:
    blocks = ["WEBVTT\n"]
    for cue in make_cues(transcript.segments):
        lines = [html.escape(line, quote=False) for line in cue.lines]
        if cue.speaker:
            lines[0] = f"<v {html.escape(cue.speaker, quote=False)}>{lines[0]}"
        times = f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}"
        blocks.append("\n".join([times, *lines]) + "\n")
    return "\n".join(blocks)


def _plain(line: str) -> str:
    """SubRip knows no escapes: an invisible joiner keeps players from taking text for tags or times."""
    return TAG_OR_TIME.sub(lambda found: f"{found[0]}{WORD_JOINER}", line)


def _timestamp(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def make_cues(segments: Sequence[Segment]) -> list[Cue]:
    """Cues of at most two short lines, shown long enough to be read, without overlap."""
    parts = [(segment, words) for segment in segments for words in _split_segment(segment)]
    parts.sort(key=lambda part: part[1][0].start)
    # cues of people who begin to talk at once are shown one after the other
    starts: list[float] = []
    for _, words in parts:
        starts.append(max(words[0].start, starts[-1] + MIN_START_INTERVAL_SECONDS) if starts else words[0].start)
    cues = []
    for position, (segment, words) in enumerate(parts):
        lines = wrap_words(words)
        start = starts[position]
        reading_seconds = max(MIN_CUE_SECONDS, sum(map(display_width, lines)) / READING_COLUMNS_PER_SECOND)
        end = max(words[-1].end, start + reading_seconds)
        if position + 1 < len(parts):
            # share the time until the next cue
            next_start = starts[position + 1]
            end = min(end, max(next_start - CUE_GAP_SECONDS, start + (next_start - start) / 2))
        if end - start >= 0.001:
            cues.append(Cue(start, end, lines, segment.speaker))
    return cues


def _split_segment(segment: Segment) -> Iterator[tuple[Word, ...]]:
    """The words of each cue of a segment, divided at the ends of phrases where possible."""
    words = segment.words or (Word(segment.text, segment.start, segment.end, segment.confidence),)
    begin = 0
    while begin < len(words):
        fits = begin + 1
        while fits < len(words) and _fits(words[begin : fits + 1]):
            fits += 1
        if fits < len(words):
            half = begin + (fits - begin + 1) // 2
            phrase_ends = [i for i in range(half, fits + 1) if ends_phrase(words[i - 1].text)]
            fits = phrase_ends[-1] if phrase_ends else fits
        yield tuple(words[begin:fits])
        begin = fits


def _fits(words: Sequence[Word]) -> bool:
    if words[-1].end - words[0].start > MAX_CUE_SECONDS:
        return False
    limit = _max_columns(join_words(words))
    return len(wrap_words(words)) <= MAX_LINES and all(display_width(line) <= limit for line in wrap_words(words))


def _max_columns(text: str) -> int:
    return MAX_COLUMNS_CJK if any(map(is_cjk, text)) else MAX_COLUMNS


def wrap_words(words: Sequence[Word]) -> tuple[str, ...]:
    """One line if it fits, else two lines of similar length, else as many as necessary."""
    text = join_words(words)
    limit = _max_columns(text)
    if display_width(text) <= limit:
        return (text,)
    halves = [
        (join_words(words[:i]), join_words([_unglued(words[i]), *words[i + 1 :]]))
        for i in range(1, len(words))
        if not words[i].glued or is_cjk(words[i].text[0])
    ]
    fitting = [pair for pair in halves if max(map(display_width, pair)) <= limit]
    if fitting:
        return min(
            fitting,
            key=lambda pair: abs(display_width(pair[0]) - display_width(pair[1])) - 6 * ends_clause(pair[0]),
        )
    return tuple(_wrap_text(text, limit))


def _unglued(word: Word) -> Word:
    return Word(word.text, word.start, word.end, word.confidence)


def _wrap_text(text: str, limit: int) -> Iterator[str]:
    """Lines of text, broken at spaces where there are any."""
    line = ""
    for piece in text.split(" "):
        candidate = f"{line} {piece}" if line else piece
        if display_width(candidate) <= limit:
            line = candidate
            continue
        if line:
            yield line
        line = piece
        while display_width(line) > limit:
            cut = next(i for i in range(1, len(line) + 1) if display_width(line[: i + 1]) > limit)
            yield line[:cut]
            line = line[cut:]
    if line:
        yield line
