"""Cues as SubRip and WebVTT."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from speech.text.rendering.cues import Cue, Layout, make_cues
from speech.text.script import space_between
from speech.text.transcript import Transcript

WORD_JOINER = "\u2060"
TAG_OR_TIME = re.compile(r"[<{]|--(?=>)|\d{1,2}:\d{1,2}:\d{1,2}(?=[.,]\d)")


def subrip(transcript: Transcript, layout: Layout) -> str:
    cues = make_cues(transcript.segments, layout, names_in_lines=True, duration=transcript.duration)
    blocks = []
    for number, cue in enumerate(cues, 1):
        lines = [_plain(line) for line in cue.lines]
        if cue.speaker:
            lines[0] = f"{_plain(cue.speaker)}: {lines[0]}".rstrip()
        times = f"{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}"
        blocks.append("\n".join([str(number), times, *lines]) + "\n")
    return "\n".join(blocks)


def webvtt(transcript: Transcript, layout: Layout) -> str:
    return _webvtt(transcript, layout, lambda cue: "\n".join(map(_escape, cue.lines)))


def karaoke(transcript: Transcript, layout: Layout) -> str:
    """WebVTT in which a time stands before each word, at which a player highlights it."""
    return _webvtt(transcript, layout, _timed_text)


def _webvtt(transcript: Transcript, layout: Layout, text_of: Callable[[Cue], str]) -> str:
    blocks = ["WEBVTT\n"]
    cues = make_cues(transcript.segments, layout, duration=transcript.duration)
    for cue in cues:
        voice = f"<v {_escape(cue.speaker)}>" if cue.speaker else ""
        times = f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}"
        blocks.append(f"{times}\n{voice}{text_of(cue)}\n")
    return "\n".join(blocks)


def _timed_text(cue: Cue) -> str:
    """The times rise, and lie within the cue: a word that has none of its own begins with the one before it."""
    text = ""
    latest = _milliseconds(cue.start)
    for line in cue.words:
        text += "\n" if text else ""
        for before, word in zip((None, *line), line, strict=False):
            text += " " if before and space_between(before.text, word) else ""
            if latest < _milliseconds(word.start) < _milliseconds(cue.end):
                latest = _milliseconds(word.start)
                text += f"<{_timestamp(word.start, '.')}>"
            text += _escape(word.text)
    return text


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


def _plain(line: str) -> str:
    """SubRip knows no escapes: an invisible joiner keeps players from taking text for tags or times."""
    return TAG_OR_TIME.sub(lambda found: f"{found[0]}{WORD_JOINER}", line)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _timestamp(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
