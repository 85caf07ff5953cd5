"""The Word document, opened again."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, datetime

import docx
import pytest
from docx.document import Document
from docx.oxml.ns import qn

from speech.text.formats import Format, render
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Source


def opened(*said: tuple[str, str | None], language: str = "en", title: str = "Team meeting.wav") -> Document:
    segments = tuple(
        Segment(i, 0, 100.0 * i, 100.0 * i + 2, text, 0.3, Source.HUMAN, language, speaker)
        for i, (text, speaker) in enumerate(said)
    )
    transcript = Transcript(
        "id", "completed", language, 3725.4, segments, (), (Speaker("SPEAKER_00", "Ada"),),
        title=title, date=datetime(2026, 3, 5, 23, tzinfo=UTC),
    )  # fmt: skip
    return docx.Document(io.BytesIO(render(transcript, Format.DOCX)))


def test_a_heading_and_a_paragraph_for_each_turn() -> None:
    document = opened(("Good morning.", "SPEAKER_00"), ("Hello.", "SPEAKER_01"), ("Music", None))
    assert [paragraph.text for paragraph in document.paragraphs] == [
        "Team meeting.wav",
        "2026-03-05 · 1:02:05",
        "Ada  0:00:00\nGood morning.",
        "SPEAKER_01  0:01:40\nHello.",
        "0:03:20\nMusic",
    ]
    title, _, turn, *_ = document.paragraphs
    assert title.style is not None
    assert title.style.name == "Title"
    assert [run.style.name for run in turn.runs] == [
        "Speaker",
        "Default Paragraph Font",
        "Time",
        "Default Paragraph Font",
    ]
    assert document.styles["Speaker"].font.bold
    properties = document.core_properties
    assert (properties.title, properties.author, properties.language) == ("Team meeting.wav", "", "en")
    assert properties.created == datetime(2026, 3, 5, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "right_to_left"),
    [("שלום, Ada", True), ("«مرحبا»", True), ("(Hello) שלום", False), ("2026", False), ("会议", False)],
)
def test_the_direction_is_that_of_the_first_letter(text: str, right_to_left: bool) -> None:
    turn = opened((text, "SPEAKER_00")).paragraphs[2]
    assert bool(turn._p.xpath("./w:pPr/w:bidi")) == right_to_left
    assert bool(turn.runs[-1].font.rtl) == right_to_left


@pytest.mark.parametrize(
    ("language", "tag", "font"),
    [("ja", "ja-JP", "Yu Gothic"), ("zh", "zh-CN", "Microsoft YaHei"), ("fr", "zh-CN", "Microsoft YaHei")],
)
def test_fonts_hold_all_scripts(language: str, tag: str, font: str) -> None:
    document = opened(("会议", None), language=language)
    for fonts in document.styles.element.xpath(
        "./w:docDefaults//w:rFonts | ./w:style[@w:styleId='Title']//w:rFonts"
    ):
        assert (fonts.get(qn("w:eastAsia")), fonts.get(qn("w:cs"))) == (font, "Arial")
        assert fonts.get(qn("w:eastAsiaTheme")) is None
    (spelling,) = document.styles.element.xpath("./w:docDefaults//w:lang")
    assert spelling.get(qn("w:eastAsia")) == tag
    assert spelling.get(qn("w:val")) == ("fr" if language == "fr" else "en-US")


def test_a_long_name_is_no_obstacle() -> None:
    document = opened(("Hello.", None), title="x" * 1000)
    assert len(document.core_properties.title) == 255
    assert document.paragraphs[0].text == "x" * 1000


def test_its_library_is_loaded_when_it_is_used() -> None:
    script = "import sys, speech.text.formats; print([name for name in ('docx', 'lxml') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
