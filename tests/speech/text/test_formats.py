from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import docx
import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio.utilities.textgrid_io import parseTextgridStr

from speech.asr.alignment.segments import divide_into_segments
from speech.text.formats import Format, render
from speech.text.rendering.cues import MAX_COLUMNS, MAX_COLUMNS_CJK, make_cues
from speech.text.script import display_width, is_cjk
from speech.text.timeline import Timeline
from speech.text.transcript import Transcript
from speech.text.words import Segment, Source, Word
from tests.speech.text.rendered import rendered

ENGLISH = (
    "So you want to be more productive, and starting cannot be better than this: I keep it to be amused "
    "by the stupidity. After that I will be ready to go, and I thank you for your sympathy because it counts."
)
CHINESE = "今天我们来讨论一下明年的计划，首先请各位介绍一下自己的部门，然后我们再决定下一次会议的时间和地点。"


def transcript(text: str, *, speaker: str | None = None, pace: float = 0.3, gap: float = 0.0) -> Transcript:
    units = list(text) if is_cjk(text[0]) else text.split()
    words = [Word(u, i * (pace + gap), i * (pace + gap) + pace, 0.9) for i, u in enumerate(units)]
    segments = tuple(
        Segment(**{**{f: getattr(s, f) for f in s.__dataclass_fields__}, "speaker": speaker})
        for s in divide_into_segments(
            [(None, words)], chunk=0, timeline=Timeline(((0, 1e5),)), source=Source.REFINED
        )
    )
    return Transcript("id", "completed", "en", 60.0, segments)


@pytest.mark.parametrize(("text", "columns"), [(ENGLISH, MAX_COLUMNS), (CHINESE, MAX_COLUMNS_CJK)])
def test_subtitles_are_readable(text: str, columns: int) -> None:
    cues = make_cues(transcript(text).segments)
    assert "".join("".join(cue.lines) for cue in cues).replace(" ", "") == text.replace(" ", "")
    for cue in cues:
        assert len(cue.lines) <= 2
        assert all(display_width(line) <= columns for line in cue.lines)
        assert cue.end - cue.start <= 8
    assert all(left.end <= right.start for left, right in pairwise(cues))


@pytest.mark.parametrize("format_", [Format.SRT, Format.VTT])
def test_a_subtitle_library_reads_back_what_was_written(format_: Format) -> None:
    cues = make_cues(transcript(ENGLISH).segments)
    read = pysubs2.SSAFile.from_string(rendered(transcript(ENGLISH), format_), format_=format_.value)
    assert [(e.start, e.end, e.plaintext) for e in read] == [
        (round(c.start * 1000), round(c.end * 1000), "\n".join(c.lines)) for c in cues
    ]


def test_speakers_are_named() -> None:
    named = transcript("Good morning.", speaker="Ada & co")
    assert "Ada & co: Good morning." in rendered(named, Format.SRT)
    assert "<v Ada &amp; co>Good morning." in rendered(named, Format.VTT)
    assert rendered(named, Format.TXT) == "Ada & co: Good morning.\n"


def test_vtt_escapes_what_would_be_markup() -> None:
    text = rendered(transcript("a <b> --> c"), Format.VTT)
    assert "a &lt;b&gt; --&gt; c" in text


def test_tsv_has_a_line_for_each_segment() -> None:
    text = rendered(transcript(ENGLISH, speaker="Ada\tB"), Format.TSV)
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert " ".join(row["text"] for row in rows) == ENGLISH
    assert {row["speaker"] for row in rows} == {"Ada B"}
    assert all(int(row["start"]) < int(row["end"]) for row in rows)


def test_markdown_escapes_mark_up() -> None:
    text = rendered(transcript("2. *Star* <b> [x](y) # no_list", speaker="Ada"), Format.MD)
    assert text == "`0:00:00` **Ada**  \n2\\. \\*Star\\* \\<b\\> \\[x\\](y) \\# no\\_list\n"


def test_json_has_the_public_shape() -> None:
    document = json.loads(rendered(transcript("Good morning."), Format.JSON))
    assert set(document) == {"job_id", "status", "language", "duration", "speakers", "turns", "segments"}
    assert set(document["segments"][0]) == {
        "index", "chunk", "start", "end", "text", "speaker", "language", "confidence", "source", "version",
        "words",
    }  # fmt: skip
    assert set(document["segments"][0]["words"][0]) == {"text", "start", "end", "confidence"}


EMPTY = {
    Format.TXT: "\n",
    Format.MD: "\n",
    Format.SRT: "",
    Format.RTTM: "",
    Format.CTM: "",
    Format.VTT: "WEBVTT\n",
    Format.KARAOKE: "WEBVTT\n",
    Format.TSV: "start\tend\tspeaker\ttext\n",
    Format.CSV: "index,start,end,speaker,language,confidence,text\r\n",
}


@pytest.mark.parametrize("format_", Format)
def test_a_transcript_without_segments_is_a_valid_file(format_: Format) -> None:
    body = render(Transcript("id", "completed", None, 10.0, ()), format_)
    if format_ is Format.JSON:
        assert json.loads(body)["segments"] == []
    elif format_ is Format.DOCX:
        assert [p.text for p in docx.Document(io.BytesIO(body)).paragraphs] == ["Transcript", "0:00:10"]
    elif format_ is Format.TEXTGRID:
        tier = parseTextgridStr(body.decode(), includeEmptyIntervals=True)["tiers"][0]
        assert [tuple(interval) for interval in tier["entries"]] == [("0", "10", "")]
    else:
        assert body.decode() == EMPTY[format_]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=60), min_size=1, max_size=60),
    st.floats(0.01, 2),
    st.floats(0, 3),
)
def test_cues_never_overlap(words: list[str], pace: float, gap: float) -> None:
    timed = [Word(w, i * (pace + gap), i * (pace + gap) + pace, 0.5) for i, w in enumerate(words)]
    segments = divide_into_segments([(None, timed)], chunk=0, timeline=Timeline(((0, 1e6),)), source=Source.DRAFT)
    cues = make_cues(segments)
    assert all(cue.start < cue.end for cue in cues)
    assert all(left.end <= right.start for left, right in pairwise(cues))
