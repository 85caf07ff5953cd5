"""A transcript in paragraphs: plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from speech.text.script import is_cjk
from speech.text.transcript import Transcript
from speech.text.words import Segment

PARAGRAPH_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What one person says without a pause."""

    start: float
    speaker: str | None
    text: str


def paragraphs(transcript: Transcript) -> Iterator[Paragraph]:
    said: list[Segment] = []
    for segment in transcript.segments:
        if said and (
            said[-1].speaker != segment.speaker or segment.start - said[-1].end >= PARAGRAPH_PAUSE_SECONDS
        ):
            yield Paragraph(said[0].start, said[0].speaker, join_segments(said))
            said = []
        said.append(segment)
    if said:
        yield Paragraph(said[0].start, said[0].speaker, join_segments(said))


def spaced_texts(segments: Iterable[Segment], before: str = "") -> Iterator[str]:
    """The text of each segment, with a space in front where its script has one. ``before`` is what they follow."""
    last = before[-1:]
    for segment in segments:
        text = segment.text
        no_space = not last or not text or (is_cjk(last) and is_cjk(text[0]))
        yield text if no_space else f" {text}"
        last = text[-1:] or last


def join_segments(segments: Iterable[Segment]) -> str:
    return "".join(spaced_texts(segments))


def plain_text(transcript: Transcript) -> str:
    found = paragraphs(transcript)
    return "\n\n".join(f"{each.speaker}: {each.text}" if each.speaker else each.text for each in found) + "\n"


def markdown(transcript: Transcript) -> str:
    """Paragraphs with the time of their start, and the speaker in bold."""
    lines = []
    for paragraph in paragraphs(transcript):
        name = f" **{_escape(paragraph.speaker)}**" if paragraph.speaker else ""
        lines.append(f"`{clock(paragraph.start)}`{name}  \n{_escape(paragraph.text)}")
    return "\n\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Characters that Markdown or HTML would take for mark-up, as themselves."""
    marked = re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", text)
    # a number or a dash at the start of a line would begin a list, and make the line before it a heading
    return re.sub(r"^(\d*)([.)+=-])", r"\1\\\2", marked)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as in 0:01:02."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
