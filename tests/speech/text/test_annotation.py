"""RTTM and CTM: who spoke, and the words, as scoring tools read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from praatio import textgrid
from pyannote.database.util import load_rttm

from speech.text.formats import Format
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Source, Turn, Word
from tests.speech.text.rendered import rendered

ADA, BOB = "SPEAKER_00", "SPEAKER_01"


def segment(
    start: float,
    end: float,
    speaker: str | None,
    *,
    source: Source = Source.REFINED,
    chunk: int = 0,
    text: str = "hm",
) -> Segment:
    words = (Word(text, start, end, 0.25),)
    return Segment(round(start * 10), chunk, start, end, text, 0.9, source, "en", speaker, words)


def made(*segments: Segment, turns: tuple[Turn, ...] = (), **values: object) -> Transcript:
    known = {"title": "team meeting.wav", "speakers": (Speaker(ADA, "Ada King"), Speaker(BOB))} | values
    return Transcript("id", "completed", "en", 20.0, segments, turns, **known)  # type: ignore[arg-type]


def spans(transcript: Transcript) -> list[tuple[float, float, str]]:
    rows = [line.split() for line in rendered(transcript, Format.RTTM).splitlines()]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def test_pyannote_reads_the_turns(tmp_path: Path) -> None:
    turns = (Turn(0.5, 4.25, ADA), Turn(3, 6, BOB), Turn(4.25, 5, ADA), Turn(7, 7.0001, BOB))
    body = rendered(made(turns=turns), Format.RTTM)
    assert body.startswith("SPEAKER team_meeting 1 0.500 4.500 <NA> <NA> Ada_King <NA> <NA>\n")
    (tmp_path / "x.rttm").write_text(body)
    read = load_rttm(tmp_path / "x.rttm")["team_meeting"]  # type: ignore[no-untyped-call]
    # what touches is one, and what lasts no millisecond is none
    assert [(span.start, span.end, name) for span, _, name in read.itertracks(yield_label=True)] == [
        (0.5, 5.0, "Ada_King"),
        (3.0, 6.0, BOB),
    ]


@pytest.mark.parametrize(
    ("corrected", "expected"),
    [
        # a text was corrected: who speaks stays, with all overlap
        (segment(2, 4, ADA, source=Source.HUMAN), [(0, 5, "Ada_King"), (4, 9, BOB)]),
        (segment(3, 5, BOB, source=Source.HUMAN), [(0, 3, "Ada_King"), (3, 9, BOB)]),
        # a new name within a turn, and where nobody was heard
        (
            segment(1, 2, "Eve", source=Source.HUMAN),
            [(0, 1, "Ada_King"), (1, 2, "Eve"), (2, 5, "Ada_King"), (4, 9, BOB)],
        ),
        (segment(10, 12, "Eve", source=Source.HUMAN), [(0, 5, "Ada_King"), (4, 9, BOB), (10, 12, "Eve")]),
        # what a model says changes nothing
        (segment(1, 2, "Eve"), [(0, 5, "Ada_King"), (4, 9, BOB)]),
    ],
)  # fmt: skip
def test_turns_follow_the_corrections(corrected: Segment, expected: list[tuple[float, float, str]]) -> None:
    turns = (Turn(0, 5, ADA), Turn(4, 9, BOB))
    assert spans(made(corrected, turns=turns)) == expected


def test_corrections_one_after_the_other() -> None:
    segments = [segment(i, i + 1, "Eve" if i % 2 else ADA, source=Source.HUMAN) for i in range(10)]
    names = [name for _, _, name in spans(made(*segments, turns=(Turn(0, 10, ADA),)))]
    assert names == ["Ada_King", "Eve"] * 5


def test_channels_are_told_apart() -> None:
    transcript = made(
        segment(0, 2, ADA, chunk=0),
        segment(1, 3, BOB, chunk=1),
        segment(4, 5, ADA, chunk=0),
        channels={0: 0, 1: 1},
    )
    rttm = [line.split()[1:5] for line in rendered(transcript, Format.RTTM).splitlines()]
    assert rttm == [
        ["team_meeting", "1", "0.000", "2.000"],
        ["team_meeting", "2", "1.000", "2.000"],
        ["team_meeting", "1", "4.000", "1.000"],
    ]
    assert rendered(transcript, Format.CTM) == (
        "team_meeting 1 0.000 2.000 hm 0.250\n"
        "team_meeting 1 4.000 1.000 hm 0.250\n"
        "team_meeting 2 1.000 2.000 hm 0.250\n"
    )


@pytest.mark.parametrize(
    ("title", "file"), [(None, "id"), (";;x y.wav", "_x_y"), ("会议.flac", "会议"), (".wav", ".wav")]
)
def test_the_file_is_one_field_and_no_comment(title: str | None, file: str) -> None:
    assert rendered(made(segment(0, 1, None), title=title), Format.CTM).split(" ")[0] == file


def test_words_that_are_missing_share_the_time_of_their_segment() -> None:
    whole = Segment(0, 0, 1.0, 2.0, "one two", 0.5, Source.DRAFT)
    assert rendered(made(whole), Format.CTM) == (
        "team_meeting 1 1.000 0.500 one 0.500\nteam_meeting 1 1.500 0.500 two 0.500\n"
    )


def test_praatio_reads_the_tiers(tmp_path: Path) -> None:
    transcript = made(
        segment(0, 2, ADA, text='"Yes"'),
        segment(1.5, 3, ADA, text="and no"),
        segment(2, 4, BOB),
        segment(5, 5, None),
    )
    (tmp_path / "x.TextGrid").write_text(rendered(transcript, Format.TEXTGRID))
    read = textgrid.openTextgrid(str(tmp_path / "x.TextGrid"), includeEmptyIntervals=False)
    assert {name: [tuple(entry) for entry in read.getTier(name).entries] for name in read.tierNames} == {
        "Ada King - segments": [(0, 1.5, '"Yes"'), (1.5, 3, "and no")],
        "Ada King - words": [(0, 1.5, '"Yes"'), (1.5, 2.25, "and"), (2.25, 3, "no")],
        "SPEAKER_01 - segments": [(2, 4, "hm")],
        "SPEAKER_01 - words": [(2, 4, "hm")],
        "segments": [(5, 5.001, "hm")],
        "words": [(5, 5.001, "hm")],
    }
    assert (read.minTimestamp, read.maxTimestamp) == (0, 20)
