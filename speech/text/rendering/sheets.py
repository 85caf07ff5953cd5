"""A transcript as a table, a row for each segment."""

from __future__ import annotations

from speech.text.tables import write_table
from speech.text.transcript import Transcript

BOM = "\ufeff"
"""Without it, Excel reads a file as of its own code page."""


def tsv(transcript: Transcript, *, bom: bool) -> str:
    """Start and end in milliseconds, speaker, text. Fields with quotes in them are quoted."""
    rows = [
        (round(segment.start * 1000), round(segment.end * 1000), segment.speaker, segment.text)
        for segment in transcript.segments
    ]
    return BOM * bom + write_table([("start", "end", "speaker", "text"), *rows], delimiter="\t", line_end="\n")


def csv(transcript: Transcript, *, bom: bool) -> str:
    """Start and end in seconds; confidence from 0 to 1."""
    rows = [
        (
            segment.index,
            f"{segment.start:.3f}",
            f"{segment.end:.3f}",
            segment.speaker,
            segment.language,
            f"{segment.confidence:.3f}",
            segment.text,
        )
        for segment in transcript.segments
    ]
    return BOM * bom + write_table([("index", "start", "end", "speaker", "language", "confidence", "text"), *rows])
