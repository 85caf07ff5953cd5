"""The formats of a transcript."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from speech.text.cleaning import single_line
from speech.text.rendering.annotation import ctm, rttm
from speech.text.rendering.cues import DEFAULT_LAYOUT, Layout
from speech.text.rendering.prose import markdown, plain_text
from speech.text.rendering.sheets import csv, tsv
from speech.text.rendering.subtitles import karaoke, subrip, webvtt
from speech.text.transcript import Transcript


class Format(StrEnum):
    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    MD = "md"
    KARAOKE = "karaoke"
    CSV = "csv"
    DOCX = "docx"
    RTTM = "rttm"
    CTM = "ctm"
    TEXTGRID = "textgrid"

    @property
    def media_type(self) -> str:
        return KINDS[self].media_type

    @property
    def ending(self) -> str:
        """Of the names of its files."""
        return KINDS[self].ending or self.value

    @property
    def stored(self) -> bool:
        """Whether a completed job keeps a file of it. The others are rendered from the rows when asked for."""
        return KINDS[self].stored

    @property
    def file_name(self) -> str:
        """The stored transcript's name below its prefix."""
        return f"transcript.{self.ending}"

    @property
    def options(self) -> frozenset[str]:
        """The names of the options that it takes."""
        return KINDS[self].options


LAYOUT_OPTIONS = frozenset(field.name for field in fields(Layout))
TABLE_OPTIONS = frozenset({"bom"})


@dataclass(frozen=True, slots=True)
class Kind:
    media_type: str
    stored: bool = False
    options: frozenset[str] = frozenset()
    ending: str | None = None
    """Where it differs from the format's name."""


KINDS = {
    Format.JSON: Kind("application/json", stored=True),
    Format.TXT: Kind("text/plain; charset=utf-8", stored=True),
    Format.SRT: Kind("application/x-subrip; charset=utf-8", stored=True, options=LAYOUT_OPTIONS),
    Format.VTT: Kind("text/vtt; charset=utf-8", stored=True, options=LAYOUT_OPTIONS),
    Format.TSV: Kind("text/tab-separated-values; charset=utf-8", stored=True, options=TABLE_OPTIONS),
    Format.MD: Kind("text/markdown; charset=utf-8", stored=True),
    Format.KARAOKE: Kind("text/vtt; charset=utf-8", options=LAYOUT_OPTIONS, ending="karaoke.vtt"),
    Format.CSV: Kind("text/csv; charset=utf-8", options=TABLE_OPTIONS),
    Format.DOCX: Kind("application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    Format.RTTM: Kind("text/plain; charset=utf-8"),
    Format.CTM: Kind("text/plain; charset=utf-8"),
    Format.TEXTGRID: Kind("text/plain; charset=utf-8", ending="TextGrid"),
}


def file_names() -> list[str]:
    """The names of a stored transcript's files."""
    return [format_.file_name for format_ in Format if format_.stored]


def render_files(transcript: Transcript) -> Iterator[tuple[str, bytes, str]]:
    """Name, content and media type of each file of a stored transcript."""
    for format_ in Format:
        if format_.stored:
            yield format_.file_name, render(transcript, format_), format_.media_type


def render(
    transcript: Transcript, format_: Format, layout: Layout = DEFAULT_LAYOUT, *, bom: bool = False
) -> bytes:
    """The transcript as a file. ``layout`` is that of subtitles, ``bom`` begins a table with a byte order mark."""
    if format_ is Format.JSON:
        return to_json(transcript, [segment.to_json() for segment in transcript.segments])
    readable = _for_readers(transcript)
    if format_ is Format.DOCX:
        from speech.text.rendering.document import word_document  # noqa: PLC0415  (lxml, where nobody may need it)

        return word_document(readable)
    return _text(readable, format_, layout, bom).encode()


def _text(transcript: Transcript, format_: Format, layout: Layout, bom: bool) -> str:
    match format_:
        case Format.TXT:
            return plain_text(transcript)
        case Format.SRT:
            return subrip(transcript, layout)
        case Format.VTT:
            return webvtt(transcript, layout)
        case Format.KARAOKE:
            return karaoke(transcript, layout)
        case Format.TSV:
            return tsv(transcript, bom=bom)
        case Format.CSV:
            return csv(transcript, bom=bom)
        case Format.MD:
            return markdown(transcript)
        case Format.RTTM:
            return rttm(transcript)
        case Format.CTM:
            return ctm(transcript)
        case Format.TEXTGRID:
            from speech.text.rendering.praat import textgrid  # noqa: PLC0415  (the same of praatio)

            return textgrid(transcript)
    raise AssertionError(format_)


def _for_readers(transcript: Transcript) -> Transcript:
    """Names in place of labels where they are known, and everything on one line."""
    names = {speaker.label: speaker.name or speaker.label for speaker in transcript.speakers}

    def name(label: str | None) -> str | None:
        return single_line(names.get(label or "", label) or "") or None

    segments = (
        replace(
            segment,
            speaker=name(segment.speaker),
            text=single_line(segment.text),
            words=tuple(replace(word, text=single_line(word.text)) for word in segment.words),
        )
        for segment in transcript.segments
    )
    return replace(
        transcript,
        segments=tuple(segment for segment in segments if segment.text),
        turns=tuple(
            replace(turn, speaker=speaker) for turn in transcript.turns if (speaker := name(turn.speaker))
        ),
        title=single_line(transcript.title or "") or None,
    )


def to_json(transcript: Transcript, segments: Sequence[Mapping[str, Any]]) -> bytes:
    """The transcript as JSON, of segments that are JSON already in place of its own."""
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
        "segments": segments,
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
