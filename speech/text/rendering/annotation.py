"""Who spoke, and which words, in the line formats of NIST's scoring tools: RTTM and CTM."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from speech.text.rendering.words import timed_words
from speech.text.transcript import Transcript
from speech.text.words import Segment, Source, Turn

NONE = "<NA>"


@dataclass(frozen=True, slots=True)
class _Span:
    """A turn in milliseconds."""

    start: int
    end: int
    speaker: str
    channel: int


def rttm(transcript: Transcript) -> str:
    """Lines ``SPEAKER file channel start duration <NA> <NA> name <NA> <NA>``, in the order of their starts.

    See the NIST RT-09 evaluation plan, appendix A. Names take underscores for spaces.
    """
    file = _file(transcript)
    return "".join(
        f"SPEAKER {file} {span.channel} {_seconds(span.start)} {_seconds(span.end - span.start)} "
        f"{NONE} {NONE} {_field(span.speaker)} {NONE} {NONE}\n"
        for span in _merge(_spans(transcript))
    )


def ctm(transcript: Transcript) -> str:
    """Lines ``file channel start duration word confidence``, in the order of channels and starts.

    See the NIST sclite documentation, ``infmts.htm``.
    """
    file = _file(transcript)
    words = [
        (_channel(transcript, segment), _milliseconds(word.start), _milliseconds(word.end), word)
        for segment in transcript.segments
        for word in timed_words(segment)
    ]
    words.sort(key=lambda each: each[:2])
    return "".join(
        f"{file} {channel} {_seconds(start)} {_seconds(max(end - start, 0))} {word.text} {word.confidence:.3f}\n"
        for channel, start, end, word in words
    )


def _file(transcript: Transcript) -> str:
    """The recording's name without its ending, by which reference files know it."""
    stem = PurePath(transcript.title or "").stem
    # a line that begins with two semicolons is a comment
    return re.sub(r"[\s;]+", "_", stem) or transcript.job_id


def _field(text: str) -> str:
    return text.replace(" ", "_")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def _channel(transcript: Transcript, segment: Segment) -> int:
    """From 1 on, as the formats count."""
    return transcript.channels.get(segment.chunk, 0) + 1


def _spans(transcript: Transcript) -> Iterable[_Span]:
    """The turns as people corrected them; where nobody told speakers apart by ear, the segments of each."""
    if transcript.turns:
        for turn in _corrected(transcript.turns, transcript.segments):
            yield _Span(_milliseconds(turn.start), _milliseconds(turn.end), turn.speaker, 1)
        return
    for segment in transcript.segments:
        if segment.speaker:
            start, end = _milliseconds(segment.start), _milliseconds(segment.end)
            yield _Span(start, end, segment.speaker, _channel(transcript, segment))


def _merge(spans: Iterable[_Span]) -> list[_Span]:
    """Spans of one speaker that touch are one, so that nobody overlaps with themselves."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.channel, span.speaker, span.start)):
        last = merged[-1] if merged else None
        if last and (last.channel, last.speaker) == (span.channel, span.speaker) and span.start <= last.end:
            merged[-1] = replace(last, end=max(last.end, span.end))
        else:
            merged.append(span)
    return sorted((span for span in merged if span.end > span.start), key=lambda span: (span.start, span.end))


def _corrected(turns: Sequence[Turn], segments: Sequence[Segment]) -> list[Turn]:
    """The turns, with what a person gave to another speaker."""
    done: list[Turn] = []
    near: list[Turn] = []
    ahead = deque(sorted(turns, key=lambda turn: turn.start))
    by_people = (segment for segment in segments if segment.source is Source.HUMAN and segment.speaker)
    for segment in sorted(by_people, key=lambda segment: segment.start):
        while ahead and ahead[0].start < segment.end:
            near.append(ahead.popleft())
        done += [turn for turn in near if turn.end <= segment.start]
        near = _give(segment, [turn for turn in near if turn.end > segment.start])
    return [*done, *near, *ahead]


def _give(segment: Segment, turns: list[Turn]) -> list[Turn]:
    """The turns, in which the segment's speaker talks most of its time: instead of whoever did before."""
    talks: defaultdict[str, float] = defaultdict(float)
    for turn in turns:
        talks[turn.speaker] += max(min(turn.end, segment.end) - max(turn.start, segment.start), 0.0)
    speaker = segment.speaker or ""
    before, most = max(talks.items(), key=lambda item: item[1], default=("", 0.0))
    if most and talks[speaker] >= most:
        return turns
    given = [Turn(segment.start, segment.end, speaker)]
    for turn in turns:
        if turn.speaker != before:
            given.append(turn)
            continue
        for start, end in ((turn.start, min(turn.end, segment.start)), (max(turn.start, segment.end), turn.end)):
            if start < end:
                given.append(Turn(start, end, turn.speaker))
    return given
