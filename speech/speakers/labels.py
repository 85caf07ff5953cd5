"""Labelling words with the speakers of turns, and dividing segments where the speaker changes. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from speech.text.script import ends_sentence, join_words
from speech.text.words import SEGMENTS_PER_CHUNK, Segment, Source, Turn, Word, segment_index

MAX_DISTANCE_SECONDS = 1.5
"""A word outside all turns belongs to the nearest turn within this: words and turns come from different models."""

MIN_RUN_WORDS = 2
"""A shorter run of words of one speaker within a sentence goes to a neighbouring speaker."""

LOOKBACK_SECONDS = 60.0
"""Turns that begin longer before a word are considered only if they are among the last four."""


def label_segments(segments: Sequence[Segment], turns: Sequence[Turn]) -> list[Segment]:
    """The segments of one chunk with their speakers, divided where the speaker changes.

    Segments are renumbered if one was divided. Corrected segments are not divided.
    """
    ordered = sorted(turns, key=lambda turn: turn.start)
    parts = [part for segment in segments for part in _divide_segment(segment, ordered)]
    if len(parts) == len(segments):
        return parts
    if len(parts) > SEGMENTS_PER_CHUNK:  # only for pathological input
        return [replace(s, speaker=speaker_of(s.start, s.end, ordered)) for s in segments]
    return [replace(part, index=segment_index(part.chunk, position)) for position, part in enumerate(parts)]


def _divide_segment(segment: Segment, turns: Sequence[Turn]) -> Iterator[Segment]:
    if segment.source is Source.HUMAN or not segment.words:
        yield replace(segment, speaker=segment.speaker or speaker_of(segment.start, segment.end, turns))
        return
    heard = [turn for turn in turns_near(segment.start, segment.end, turns) if _overlap(segment, turn) > 0]
    if len(heard) == 1 and heard[0].start <= segment.start and segment.end <= heard[0].end:
        # most segments of a long recording: no word need be looked at
        yield replace(segment, speaker=heard[0].speaker)
        return
    speakers = [speaker_of(word.start, word.end, turns) for word in segment.words]
    smoothed = smooth_speakers(segment.words, speakers)
    runs = [
        (speaker, [word for _, word in run])
        for speaker, run in groupby(zip(smoothed, segment.words, strict=True), key=lambda pair: pair[0])
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


def _overlap(segment: Segment, turn: Turn) -> float:
    return min(segment.end, turn.end) - max(segment.start, turn.start)


def speaker_of(start: float, end: float, turns: Sequence[Turn]) -> str | None:
    """Who talks most between the two times, else whose turn is nearest; None where no turn is near."""
    overlaps: dict[str, float] = {}
    nearest, distance = None, MAX_DISTANCE_SECONDS
    for turn in turns_near(start, end, turns):
        overlap = min(end, turn.end) - max(start, turn.start)
        if overlap > 0:
            overlaps[turn.speaker] = overlaps.get(turn.speaker, 0.0) + overlap
        elif -overlap < distance:
            nearest, distance = turn.speaker, -overlap
    return max(overlaps, key=lambda speaker: overlaps[speaker]) if overlaps else nearest


def turns_near(start: float, end: float, turns: Sequence[Turn]) -> Sequence[Turn]:
    """All that speaker_of looks at for times within these: the turns that begin before the end, back to
    LOOKBACK_SECONDS before the start, and four more. Turns come and go by their starts."""
    first = bisect_left(turns, start - LOOKBACK_SECONDS, key=lambda turn: turn.start)
    last = bisect_left(turns, end + MAX_DISTANCE_SECONDS, key=lambda turn: turn.start)
    return turns[max(0, first - 4) : last]


def smooth_speakers(words: Sequence[Word], speakers: Sequence[str | None]) -> list[str | None]:
    """Sentence by sentence, short runs of words go to a neighbouring speaker."""
    smoothed: list[str | None] = []
    sentence_start = 0
    for position, word in enumerate(words):
        if ends_sentence(word.text) or position == len(words) - 1:
            smoothed += _smooth_sentence(speakers[sentence_start : position + 1])
            sentence_start = position + 1
    return smoothed


def _smooth_sentence(speakers: Sequence[str | None]) -> list[str | None]:
    """Give the shortest run to the longer of its neighbours, until every run is long enough."""
    current = list(speakers)
    while True:
        runs = _runs(current)
        if len(runs) == 1:
            return current
        shortest = min(range(len(runs)), key=lambda i: (current[runs[i][0]] is not None, runs[i][1] - runs[i][0]))
        first, last = runs[shortest]
        if last - first >= MIN_RUN_WORDS and current[first] is not None:
            return current
        neighbours = [runs[i] for i in (shortest - 1, shortest + 1) if 0 <= i < len(runs)]
        longest = max(neighbours, key=lambda run: run[1] - run[0])
        current[first:last] = [current[longest[0]]] * (last - first)


def _runs(speakers: Sequence[str | None]) -> list[tuple[int, int]]:
    """First and last (exclusive) position of each run of one speaker."""
    edges = [0, *(i for i in range(1, len(speakers)) if speakers[i] != speakers[i - 1]), len(speakers)]
    return list(pairwise(edges))
