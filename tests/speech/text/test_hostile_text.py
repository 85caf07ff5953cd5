"""Text made to look like more than text: whatever is said, a format holds just that."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata
from collections.abc import Sequence

import docx
import pysubs2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.text.cleaning import single_line
from speech.text.formats import Format, render
from speech.text.rendering.cues import make_cues
from speech.text.rendering.subtitles import WORD_JOINER
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Source, Word
from tests.speech.text.rendered import rendered

FORGED = "Ada\n\n2\n00:00:01,000 --> 00:00:02,000\nforged"
NASTY = [
    FORGED,
    "=cmd|' /C calc'!A0",
    "<i>x</i>",
    "{\\an8}x",
    "a --> b",
    "'=x",
    '"',
    "a\u2028b",
    "\u202egnp.exe",
    "- x",
    "+1 555 0100",
    "\tx",
    ";; x",
    "\u05e9\u05dc\u05d5\u05dd \u200frtl\u200e",
    "👩\u200d🔬🏽 x",
    "\x01\x1b[31mred",
    "w" * 300,
    "會議" * 60,
    "===",
]
texts = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=60))
lines = st.tuples(texts, st.one_of(st.none(), texts))


def transcript(said: Sequence[tuple[str, str | None]]) -> Transcript:
    """A segment of one word for each text, three seconds apart."""
    segments = tuple(
        Segment(
            index=i, chunk=0, start=3.0 * i, end=3.0 * i + 2, text=text, confidence=0.5, source=Source.HUMAN,
            speaker=speaker, words=(Word(text, 3.0 * i, 3.0 * i + 2, 0.5),),
        )
        for i, (text, speaker) in enumerate(said)
    )  # fmt: skip
    return Transcript("id", "completed", "en", 60.0, segments)


def expected(said: Sequence[tuple[str, str | None]]) -> list[tuple[str, str]]:
    cleaned = [(single_line(text), single_line(speaker or "")) for text, speaker in said]
    return [(text, speaker) for text, speaker in cleaned if text]


def unquoted(field: str) -> str:
    """A field of a table without the apostrophe that makes it inert."""
    return field[1:] if re.match(r"''*[=+\-@＝＋－＠]", field) else field


many = settings(max_examples=200, deadline=None)
forged = example([(FORGED, FORGED), ("=1+1", "@SUM(A1)"), ("<b>x</b> --> y", "<v x>")])


@many
@forged
@given(st.lists(lines, max_size=6))
def test_json(said: list[tuple[str, str | None]]) -> None:
    document = json.loads(rendered(transcript(said), Format.JSON))
    assert [(s["text"], s["speaker"]) for s in document["segments"]] == said


@many
@forged
@given(st.lists(lines, max_size=6))
def test_tsv(said: list[tuple[str, str | None]]) -> None:
    rows = list(csv.reader(io.StringIO(rendered(transcript(said), Format.TSV)), delimiter="\t"))
    for row in rows[1:]:
        assert not row[2].startswith(tuple("=+-@＝＋－＠"))
        assert not row[3].startswith(tuple("=+-@＝＋－＠"))
    assert [(unquoted(text), unquoted(speaker)) for _, _, speaker, text in rows[1:]] == expected(said)


@many
@forged
@given(st.lists(lines, max_size=6))
def test_csv(said: list[tuple[str, str | None]]) -> None:
    body = rendered(transcript(said), Format.CSV)
    assert rendered(transcript(said), Format.CSV, bom=True) == f"\ufeff{body}"
    head, *rows = csv.reader(io.StringIO(body, newline=""), strict=True)
    assert head == ["index", "start", "end", "speaker", "language", "confidence", "text"]
    assert not [field for row in rows for field in row if field.startswith(tuple("=+-@＝＋－＠"))]
    assert [(unquoted(row[6]), unquoted(row[3])) for row in rows] == expected(said)
    assert all(float(row[1]) + 2 == float(row[2]) and row[5] == "0.500" for row in rows)


@many
@forged
@given(st.lists(lines, max_size=6))
def test_karaoke(said: list[tuple[str, str | None]]) -> None:
    body = rendered(transcript(said), Format.KARAOKE)
    timed = re.compile(r"<\d\d:\d\d:\d\d\.\d{3}>")
    assert timed.sub("", body) == rendered(transcript(said), Format.VTT)


@many
@forged
@given(st.lists(lines, max_size=6))
def test_rttm(said: list[tuple[str, str | None]]) -> None:
    """Read as pyannote.database does, and strictly."""
    body = rendered(transcript(said), Format.RTTM)
    rows = [line.split(" ") for line in body.split("\n")[:-1]]
    assert rows == [line.split() for line in body.splitlines()]
    assert all(len(row) == 10 and row[:3] == ["SPEAKER", "id", "1"] for row in rows)
    assert all(row[5:7] == row[8:] == ["<NA>", "<NA>"] and float(row[4]) == 2 for row in rows)
    assert [row[7] for row in rows] == [speaker.replace(" ", "_") for _, speaker in expected(said) if speaker]


@many
@forged
@given(st.lists(lines, max_size=6))
def test_ctm(said: list[tuple[str, str | None]]) -> None:
    body = rendered(transcript(said), Format.CTM)
    rows = [line.split(" ") for line in body.split("\n")[:-1]]
    assert rows == [line.split() for line in body.splitlines()]
    assert all(len(row) == 6 and row[:2] == ["id", "1"] and row[5] == "0.500" for row in rows)
    assert [float(row[2]) for row in rows] == sorted(float(row[2]) for row in rows)
    assert "".join(row[4] for row in rows) == "".join(text.replace(" ", "") for text, _ in expected(said))


@many
@forged
@example([('say "no" intervals [1]: item [2]:', '"'), ('"IntervalTier"', '"TextTier"')])
@given(st.lists(lines, max_size=6))
def test_textgrid(said: list[tuple[str, str | None]]) -> None:
    """Read as Praat does: numbers, quoted strings and flags, whatever else is between them."""
    body = rendered(transcript(said), Format.TEXTGRID)
    found = re.findall(r'"((?:[^"]|"")*)"|(<exists>)|(?<!\S)(-?[\d.]+)(?!\S)', body)
    values = iter([text.replace('""', '"') or flag or number for text, flag, number in found])
    assert [next(values) for _ in range(5)] == ["ooTextFile", "TextGrid", "0", "60", "<exists>"]
    labels: dict[str, list[str]] = {}
    for _ in range(int(next(values))):
        kind, name, start, end, count = (next(values) for _ in range(5))
        assert (kind, start, end) == ("IntervalTier", "0", "60")
        labels[name], at = [], 0.0
        for _ in range(int(count)):
            begin, stop, label = (next(values) for _ in range(3))
            assert float(begin) == at < float(stop)
            at = float(stop)
            labels[name].append(label)
        assert at == 60
    assert list(values) == []
    for speaker in {speaker for _, speaker in expected(said)}:
        own = [text for text, by in expected(said) if by == speaker]
        prefix = f"{speaker} - " if speaker else ""
        assert [label for label in labels[f"{prefix}segments"] if label] == own
        assert "".join(labels[f"{prefix}words"]) == "".join(own).replace(" ", "")


@settings(max_examples=50, deadline=None)
@forged
@given(st.lists(lines, max_size=6))
def test_docx(said: list[tuple[str, str | None]]) -> None:
    title, _, *turns = docx.Document(io.BytesIO(render(transcript(said), Format.DOCX))).paragraphs
    assert title.text == "Transcript"
    plain = rendered(transcript(said), Format.TXT).removesuffix("\n").split("\n\n") if turns else []
    for turn, text in zip(turns, plain, strict=True):
        head, body = turn.text.split("\n")
        speaker, _, time = head.rpartition("  ")
        assert re.fullmatch(r"0:00:\d\d", time)
        assert text == (f"{speaker}: {body}" if speaker else body)


@many
@forged
@given(st.lists(lines, max_size=6))
def test_srt(said: list[tuple[str, str | None]]) -> None:
    body = rendered(transcript(said), Format.SRT)
    read = pysubs2.SSAFile.from_string(body, format_="srt") if body else []
    wanted = make_cues(cleaned(said).segments, names_in_lines=True)
    assert [(event.start, event.end) for event in read] == [
        (round(c.start * 1000), round(c.end * 1000)) for c in wanted
    ]
    blocks = [block.split("\n")[2:] for block in body.removesuffix("\n").split("\n\n")] if body else []
    assert [[line.replace(WORD_JOINER, "") for line in block] for block in blocks] == [
        [f"{cue.speaker}: {cue.lines[0]}".rstrip() if cue.speaker else cue.lines[0], *cue.lines[1:]]
        for cue in wanted
    ]
    assert not re.search(r"<[^\u2060]|\{[^\u2060]|-->(?!\s\d\d:)", body)


@many
@forged
@given(st.lists(lines, max_size=6))
def test_vtt(said: list[tuple[str, str | None]]) -> None:
    head, *blocks = rendered(transcript(said), Format.VTT).removesuffix("\n").split("\n\n")
    assert head.strip() == "WEBVTT"
    found = []
    for block in blocks:
        times, *rows = block.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", times)
        tag = re.match(r"<v ([^>]*)>", rows[0])
        rows[0] = rows[0][tag.end() :] if tag else rows[0]
        assert not any("<" in row or "-->" in row for row in rows)
        found.append((html.unescape(tag[1]) if tag else None, tuple(html.unescape(row) for row in rows)))
    assert found == [(cue.speaker, cue.lines) for cue in make_cues(cleaned(said).segments)]


@many
@forged
@given(st.lists(lines, max_size=6))
def test_text_and_markdown(said: list[tuple[str, str | None]]) -> None:
    kept = cleaned(said).segments
    plain = rendered(transcript(said), Format.TXT).removesuffix("\n").split("\n\n") if kept else []
    marked = rendered(transcript(said), Format.MD).removesuffix("\n").split("\n\n") if kept else []
    # a pause of a second joins neighbours of one speaker into a paragraph, one of four does not
    speakers = [
        segment.speaker
        for before, segment in zip((None, *kept), kept, strict=False)
        if before is None or before.speaker != segment.speaker or segment.start - before.end > 2
    ]
    assert len(plain) == len(marked) == len(speakers)
    for paragraph, speaker in zip(plain, speakers, strict=True):
        assert "\n" not in paragraph
        assert paragraph.startswith(f"{speaker}: " if speaker else "")
    for paragraph, text in zip(marked, plain, strict=True):
        _, body = paragraph.split("  \n")
        assert not re.search(r"(?<!\\)(?:\\\\)*[`*_{}\[\]<>#|~&!]", body)
        assert "\n" not in body
        bare = re.sub(r"\\(.)", r"\1", body)
        assert text.endswith(bare)


def cleaned(said: Sequence[tuple[str, str | None]]) -> Transcript:
    kept = transcript([(single_line(text), single_line(speaker or "") or None) for text, speaker in said])
    return Transcript("id", "completed", "en", 60.0, tuple(s for s in kept.segments if s.text))


def test_names_of_known_speakers_are_cleaned_too() -> None:
    made = transcript([("hello", "SPEAKER_00")])
    named = Transcript("id", "completed", "en", 9.0, made.segments, (), (Speaker("SPEAKER_00", FORGED),))
    assert rendered(named, Format.SRT).count("-->") == 1


@given(st.text(max_size=200))
def test_a_line_is_one_line_and_stays_so(text: str) -> None:
    line = single_line(text)
    assert single_line(line) == line
    assert line == line.strip()
    assert len(line.splitlines()) <= 1
    assert all(unicodedata.category(c) not in ("Cc", "Cs") for c in line)
    line.encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [("ein Cafe\u0301\r\n", "ein Café"), ("می\u200cروم", "می\u200cروم"), ("👩\u200d🔬", "👩\u200d🔬")],
)
def test_what_belongs_to_the_text_stays(text: str, line: str) -> None:
    assert single_line(text) == line
