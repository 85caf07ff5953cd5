"""Rendering a transcript: JSON, plain text, SubRip, WebVTT, TSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Any

from speech.text.cleaning import single_line
from speech.text.script import is_cjk
from speech.text.subtitles import subrip, webvtt
from speech.text.transcript import Transcript
from speech.text.words import Segment

PARAGRAPH_PAUSE_SECONDS = 2.0


class Format(StrEnum):
    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    MD = "md"

    @property
    def media_type(self) -> str:
        return {
            Format.JSON: "application/json",
            Format.TXT: "text/plain; charset=utf-8",
            Format.SRT: "application/x-subrip; charset=utf-8",
            Format.VTT: "text/vtt; charset=utf-8",
            Format.TSV: "text/tab-separated-values; charset=utf-8",
            Format.MD: "text/markdown; charset=utf-8",
        }[self]

    @property
    def file_name(self) -> str:
        """The stored transcript's name below its prefix."""
        return f"transcript.{self}"


def file_names() -> list[str]:
    """The names of a stored transcript's files, in every format."""
    return [format_.file_name for format_ in Format]


def render_files(transcript: Transcript) -> Iterator[tuple[str, bytes, str]]:
    """Name, content and media type of each file of a stored transcript."""
    for format_ in Format:
        yield format_.file_name, render(transcript, format_).encode(), format_.media_type


def render(transcript: Transcript, format_: Format) -> str:
    match format_:
        case Format.JSON:
            return _json(transcript)
        case Format.TXT:
            return _plain_text(_with_names(transcript))
        case Format.SRT:
            return subrip(_with_names(transcript))
        case Format.VTT:
            return webvtt(_with_names(transcript))
        case Format.TSV:
            return _tsv(_with_names(transcript))
        case Format.MD:
            return _markdown(_with_names(transcript))


def _with_names(transcript: Transcript) -> Transcript:
    """For readers: names in place of labels where they are known, and everything on one line."""
    names = {speaker.label: speaker.name or speaker.label for speaker in transcript.speakers}
    segments = (
        replace(
            segment,
            speaker=single_line(names.get(segment.speaker or "", segment.speaker) or "") or None,
            text=single_line(segment.text),
            words=tuple(replace(word, text=single_line(word.text)) for word in segment.words),
        )
        for segment in transcript.segments
    )
    return replace(transcript, segments=tuple(segment for segment in segments if segment.text))


def _json(transcript: Transcript) -> str:
    document: dict[str, Any] = {
        "job_id": transcript.job_id,
        "status": transcript.status,
        "language": transcript.language,
        "duration": transcript.duration,
        "speakers": [asdict(speaker) for speaker in transcript.speakers],
        "turns": [
            {"start": round(turn.start, 3), "end": round(turn.end, 3), "speaker": turn.speaker}
            for turn in transcript.turns
        ],
        "segments": [segment.to_json() for segment in transcript.segments],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def _paragraphs(transcript: Transcript) -> list[list[Segment]]:
    """Segments grouped by speaker, and at pauses."""
    paragraphs: list[list[Segment]] = []
    for segment in transcript.segments:
        last = paragraphs[-1][-1] if paragraphs else None
        if last and last.speaker == segment.speaker and segment.start - last.end < PARAGRAPH_PAUSE_SECONDS:
            paragraphs[-1].append(segment)
        else:
            paragraphs.append([segment])
    return paragraphs


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


def _plain_text(transcript: Transcript) -> str:
    lines = []
    for segments in _paragraphs(transcript):
        speaker = segments[0].speaker
        lines.append(f"{speaker}: {join_segments(segments)}" if speaker else join_segments(segments))
    return "\n\n".join(lines) + "\n"


def _markdown(transcript: Transcript) -> str:
    """Paragraphs with the time of their start, and the speaker in bold."""
    lines = []
    for segments in _paragraphs(transcript):
        speaker = segments[0].speaker
        name = f" **{_escape_markdown(speaker)}**" if speaker else ""
        lines.append(f"`{_timestamp(segments[0].start)}`{name}  \n{_escape_markdown(join_segments(segments))}")
    return "\n\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    """Characters that Markdown or HTML would take for mark-up, as themselves."""
    marked = re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", text)
    # a number or a dash at the start of a line would begin a list, and make the line before it a heading
    return re.sub(r"^(\d*)([.)+=-])", r"\1\\\2", marked)


def _timestamp(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _tsv(transcript: Transcript) -> str:
    """A line a segment: start and end in milliseconds, speaker, text. Fields with quotes in them are quoted."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["start", "end", "speaker", "text"])
    for segment in transcript.segments:
        start, end = (round(at * 1000) for at in (segment.start, segment.end))
        writer.writerow([start, end, no_formula(segment.speaker or ""), no_formula(segment.text)])
    return table.getvalue()


def no_formula(field: str) -> str:
    """An apostrophe before what a spreadsheet would take for a formula."""
    return f"'{field}" if re.match(r"'*[=+\-@＝＋－＠]", field) else field
