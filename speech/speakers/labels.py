"""Words get speakers from turns, and segments are divided where the speaker changes. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from speech.text.script import ends_sentence, join_words
from speech.text.words import SEGMENTS_PER_CHUNK, Segment, Source, Turn, Word, segment_index

MAX_TURN_DISTANCE = 1.5
"""A word outside all turns belongs to the nearest turn this close: words and turns come from different models."""

MIN_RUN_WORDS = 2
"""Fewer words than this in the middle of somebody's sentence are not believed to be somebody else's."""


def label_segments(segments: Sequence[Segment], turns: Sequence[Turn]) -> list[Segment]:
    """The segments of one chunk with their speakers, divided where the speaker changes.

    Segments are numbered anew where one was divided. What a person corrected is not divided.
    """
    ordered = sorted(turns, key=lambda turn: turn.start)
    parts = [part for segment in segments for part in _divide(segment, ordered)]
    if len(parts) == len(segments):
        return parts
    if len(parts) > SEGMENTS_PER_CHUNK:  # pathological input alone comes here
        return [replace(s, speaker=speaker_of(s.start, s.end, ordered)) for s in segments]
    return [replace(part, index=segment_index(part.chunk, place)) for place, part in enumerate(parts)]


def _divide(segment: Segment, turns: Sequence[Turn]) -> Iterator[Segment]:
    if segment.source is Source.HUMAN or not segment.words:
        yield replace(segment, speaker=segment.speaker or speaker_of(segment.start, segment.end, turns))
        return
    heard = smooth_labels(segment.words, [speaker_of(word.start, word.end, turns) for word in segment.words])
    runs = [
        (speaker, [word for _, word in run])
        for speaker, run in groupby(zip(heard, segment.words, strict=True), key=lambda pair: pair[0])
    ]
    if len(runs) == 1:
        yield replace(segment, speaker=runs[0][0])
        return
    for speaker, words in runs:
        yield replace(
            segment,
            start=words[0].start,
            end=max(words[-1].end, words[0].start),
            text=join_words([replace(words[0], glued=False), *words[1:]]),
            confidence=sum(word.confidence for word in words) / len(words),
            speaker=speaker,
            words=tuple(words),
        )


def speaker_of(start: float, end: float, turns: Sequence[Turn]) -> str | None:
    """Who talks most between the two times, else whose turn is nearest; None when nobody's is near."""
    shares: dict[str, float] = {}
    nearest, distance = None, MAX_TURN_DISTANCE
    for turn in _turns_near(start, end, turns):
        shared = min(end, turn.end) - max(start, turn.start)
        if shared > 0:
            shares[turn.speaker] = shares.get(turn.speaker, 0.0) + shared
        elif -shared < distance:
            nearest, distance = turn.speaker, -shared
    return max(shares, key=lambda speaker: shares[speaker]) if shares else nearest


def _turns_near(start: float, end: float, turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns that may matter: those that begin before the end, back to a minute before the start."""
    first = bisect_left(turns, start - 60.0, key=lambda turn: turn.start)
    last = bisect_left(turns, end + MAX_TURN_DISTANCE, key=lambda turn: turn.start)
    return turns[max(0, first - 4) : last]


def smooth_labels(words: Sequence[Word], speakers: Sequence[str | None]) -> list[str | None]:
    """Sentence by sentence, stray words go to whoever says what is around them."""
    out: list[str | None] = []
    begin = 0
    for place, word in enumerate(words):
        if ends_sentence(word.text) or place == len(words) - 1:
            out += _sentence(speakers[begin : place + 1])
            begin = place + 1
    return out


def _sentence(speakers: Sequence[str | None]) -> list[str | None]:
    """The shortest run is taken over by the longer of its neighbours, until every run is long enough."""
    current = list(speakers)
    while True:
        runs = _runs(current)
        if len(runs) == 1:
            return current
        place = min(range(len(runs)), key=lambda i: (current[runs[i][0]] is not None, runs[i][1] - runs[i][0]))
        first, last = runs[place]
        if last - first >= MIN_RUN_WORDS and current[first] is not None:
            return current
        beside = [runs[i] for i in (place - 1, place + 1) if 0 <= i < len(runs)]
        taker = max(beside, key=lambda run: run[1] - run[0])
        current[first:last] = [current[taker[0]]] * (last - first)


def _runs(speakers: Sequence[str | None]) -> list[tuple[int, int]]:
    """First and last (exclusive) place of each run of one speaker."""
    edges = [0, *(i for i in range(1, len(speakers)) if speakers[i] != speakers[i - 1]), len(speakers)]
    return list(pairwise(edges))
