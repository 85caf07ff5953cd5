"""A transcript as a Word document (DOCX)."""

from __future__ import annotations

import io
import unicodedata
from datetime import UTC, datetime

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import RGBColor
from docx.styles.style import CharacterStyle
from docx.text.paragraph import Paragraph
from docx.text.run import Run

from speech.text.rendering.prose import clock, paragraphs
from speech.text.transcript import Transcript

EAST_ASIAN = {
    "zh": ("zh-CN", "Microsoft YaHei"),
    "yue": ("zh-HK", "Microsoft JhengHei"),
    "ja": ("ja-JP", "Yu Gothic"),
    "ko": ("ko-KR", "Malgun Gothic"),
}
"""Language tag and font. Han characters look different in each of them; other languages have the first."""
COMPLEX_SCRIPT_FONT = "Arial"
"""For Arabic and Hebrew, among others."""
GREY = RGBColor(0x70, 0x70, 0x70)
MAX_PROPERTY_LENGTH = 255
"""Of the properties of a document."""


def word_document(transcript: Transcript) -> bytes:
    """A title, duration and date, then a paragraph for each turn of a speaker, with name and time."""
    document = docx.Document()
    _set_fonts(document, transcript.language)
    _set_properties(document, transcript)
    speaker_style = _character_style(document, "Speaker")
    speaker_style.font.bold = True
    time_style = _character_style(document, "Time")
    time_style.font.color.rgb = GREY
    document.add_heading(_title(transcript), level=0)
    facts = [f"{transcript.date.astimezone(UTC):%Y-%m-%d}"] if transcript.date else []
    facts += [clock(transcript.duration)] if transcript.duration is not None else []
    if facts:
        document.add_paragraph(" · ".join(facts))
    for turn in paragraphs(transcript):
        paragraph = document.add_paragraph()
        if turn.speaker:
            _add_run(paragraph, turn.speaker, speaker_style)
            paragraph.add_run("  ")
        _add_run(paragraph, clock(turn.start), time_style).add_break()
        text = paragraph.add_run(turn.text)
        if _is_right_to_left(turn.text):
            paragraph._p.get_or_add_pPr().append(OxmlElement("w:bidi"))
            text.font.rtl = True
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def _title(transcript: Transcript) -> str:
    return transcript.title or "Transcript"


def _set_properties(document: Document, transcript: Transcript) -> None:
    properties = document.core_properties
    properties.title = _title(transcript)[:MAX_PROPERTY_LENGTH]
    properties.author = properties.comments = ""
    properties.language = transcript.language or ""
    properties.created = properties.modified = (transcript.date or datetime.now(UTC)).astimezone(UTC)


def _set_fonts(document: Document, language: str | None) -> None:
    """Fonts for scripts that the template's own lacks, in place of what its theme says."""
    tag, font = EAST_ASIAN.get(language or "", EAST_ASIAN["zh"])
    styles = document.styles
    defaults = styles.element.find(f"{qn('w:docDefaults')}/{qn('w:rPrDefault')}/{qn('w:rPr')}")
    for properties in (defaults, styles["Title"].element.rPr):
        fonts = properties.find(qn("w:rFonts"))
        for attribute in ("w:eastAsiaTheme", "w:cstheme"):
            fonts.attrib.pop(qn(attribute), None)
        fonts.set(qn("w:eastAsia"), font)
        fonts.set(qn("w:cs"), COMPLEX_SCRIPT_FONT)
    spelling = defaults.find(qn("w:lang"))
    spelling.set(qn("w:eastAsia"), tag)
    if language and language not in EAST_ASIAN:
        spelling.set(qn("w:val"), language)


def _character_style(document: Document, name: str) -> CharacterStyle:
    style = document.styles.add_style(name, WD_STYLE_TYPE.CHARACTER)
    assert isinstance(style, CharacterStyle)  # noqa: S101  (what was asked for)
    return style


def _add_run(paragraph: Paragraph, text: str, style: CharacterStyle) -> Run:
    run = paragraph.add_run(text)
    # not `run.style`, which looks through all styles every time
    run._r.style = style.style_id
    return run


def _is_right_to_left(text: str) -> bool:
    """As its first letter has it, which is how paragraphs are displayed elsewhere."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((direction != "L" for direction in directions if direction in ("L", "R", "AL")), False)
