"""What a caller asks of subtitles holds for every cue."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import pytest
import webvtt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.text.formats import Format
from speech.text.rendering.cues import Layout, make_cues
from speech.text.script import display_width, ends_phrase
from speech.text.transcript import Transcript
from speech.text.words import Segment, Source, Word
from tests.speech.text.rendered import rendered

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def segment(index: int, speaker: str | None, words: Sequence[Word]) -> Segment:
    text = " ".join(word.text for word in words)
    return Segment(index, 0, words[0].start, words[-1].end, text, 0.9, Source.REFINED, "en", speaker, tuple(words))


def spoken(text: str, start: float = 0.0, pace: float = 0.3, speaker: str | None = None) -> Segment:
    words = [Word(word, start + pace * i, start + pace * (i + 1), 0.9) for i, word in enumerate(text.split())]
    return segment(round(start * 10), speaker, words)


layouts = st.builds(
    Layout,
    max_line_width=st.none() | st.integers(10, 60),
    max_lines=st.integers(1, 4),
    max_reading_speed=st.floats(5, 100),
    min_duration=st.floats(0.2, 3),
    max_duration=st.floats(3, 20),
    speaker_names=st.booleans(),
)
tokens = st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=30)


@st.composite
def conversations(draw: st.DrawFn) -> list[Segment]:
    """People who speak one after the other or at once, in words with and without spaces between."""
    segments = []
    at = 0.0
    for index in range(draw(st.integers(0, 8))):
        at += draw(st.floats(0, 4))
        pace = draw(st.floats(0, 1.5))
        texts = draw(st.lists(tokens, min_size=1, max_size=25))
        words = [
            Word(text, at + i * pace, at + (i + 1) * pace, 0.5, glued=draw(st.booleans()))
            for i, text in enumerate(texts)
        ]
        segments.append(segment(index, draw(st.sampled_from([None, "Ada", "山田", "Nobody " * 9])), words))
    return segments


def cue_text(segments: Sequence[Segment], layout: Layout, *, names_in_lines: bool) -> str:
    cues = make_cues(segments, layout, names_in_lines=names_in_lines)
    return "".join(sorted("".join("".join(cue.lines) for cue in cues).replace(" ", "")))


@settings(max_examples=300, deadline=None)
@example([spoken(LONG)], Layout(max_line_width=10, max_lines=1), True)
@example([spoken("一二三四五六七八九十" * 9)], Layout(max_line_width=10, max_lines=2), False)
@given(conversations(), layouts, st.booleans())
def test_a_layout_is_kept(segments: list[Segment], layout: Layout, names_in_lines: bool) -> None:
    cues = make_cues(segments, layout, names_in_lines=names_in_lines)
    for cue in cues:
        assert len(cue.lines) <= layout.max_lines
        limit = layout.max_line_width or 42
        indent = layout.indent(cue.speaker) if names_in_lines else 0
        for line, taken in zip(cue.lines, (indent, 0, 0, 0), strict=False):
            assert display_width(line) + taken <= limit
        assert all(cue.lines[1:])
        assert cue.start < cue.end <= cue.start + layout.max_duration + 1e-9
        assert layout.speaker_names or cue.speaker is None
    assert all(left.end <= right.start for left, right in pairwise(cues))
    said = "".join(word.text for segment in segments for word in segment.words)
    assert cue_text(segments, layout, names_in_lines=names_in_lines) == "".join(sorted(said))


@settings(max_examples=100, deadline=None)
@given(conversations(), layouts)
def test_times_within_karaoke_rise(segments: list[Segment], layout: Layout) -> None:
    text = rendered(Transcript("id", "completed", "en", 9.0, tuple(segments)), Format.KARAOKE, layout=layout)
    for block in text.split("\n\n")[1:]:
        first, *lines = block.split("\n")
        start, end = first.split(" --> ")
        inner = [part.split(">")[0] for part in "".join(lines).split("<") if part[:1].isdigit() and ">" in part]
        assert [start, *inner, end] == sorted({start, *inner, end})


def test_karaoke_has_a_time_for_each_word() -> None:
    made = Transcript("id", "completed", "en", 9.0, (spoken("So & <you> want", 1.0, 0.5, "Ada B"),))
    assert rendered(made, Format.KARAOKE) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:03.000\n"
        "<v Ada B>So <00:00:01.500>&amp; <00:00:02.000>&lt;you&gt; <00:00:02.500>want\n"
    )
    (cue,) = webvtt.from_string(rendered(made, Format.KARAOKE)).captions
    assert (cue.voice, cue.text) == ("Ada B", "So &amp; &lt;you&gt; want")


def test_karaoke_in_a_script_without_spaces() -> None:
    made = Transcript(
        "id", "completed", "zh", 9.0, (segment(0, None, [Word(c, i, i + 1, 1) for i, c in enumerate("你好")]),)
    )
    assert rendered(made, Format.KARAOKE).endswith("\n你<00:00:01.000>好\n")


@pytest.mark.parametrize("format_", [Format.SRT, Format.VTT, Format.KARAOKE])
def test_names_can_be_left_out(format_: Format) -> None:
    made = Transcript("id", "completed", "en", 9.0, (spoken("Good morning.", speaker="Ada"),))
    assert "Ada" in rendered(made, format_)
    assert "Ada" not in rendered(made, format_, layout=Layout(speaker_names=False))


def test_names_leave_their_room_in_subrip() -> None:
    made = Transcript(
        "id", "completed", "en", 9.0, (spoken("one two three four five six", speaker="Ada Lovelace"),)
    )
    body = rendered(made, Format.SRT, layout=Layout(max_line_width=28, max_lines=2))
    assert max(len(line) for line in body.split("\n") if "-->" not in line) <= 28


def test_cues_end_with_sentences_and_clauses() -> None:
    text = (
        "We met on Monday, as we had said before. The train was late again and nobody knew why it was so; "
        "still, all of us came to the meeting in time. Nothing was decided, which surprised no one at all."
    )
    cues = make_cues([spoken(text)], Layout(max_line_width=30))
    assert len(cues) >= 4
    assert all(ends_phrase(cue.lines[-1]) for cue in cues)


def test_short_answers_of_one_person_share_a_cue() -> None:
    segments = [spoken("Yes.", 0.0), spoken("No.", 0.3), spoken("Perhaps.", 0.6), spoken("Later.", 9.0)]
    assert [cue.lines for cue in make_cues(segments)] == [("Yes. No. Perhaps.",), ("Later.",)]
    apart = [spoken("Yes.", 0.0, speaker="Ada"), spoken("No.", 0.3, speaker="Bob")]
    assert [cue.lines for cue in make_cues(apart)] == [("Yes.",), ("No.",)]


def test_a_cue_stays_as_long_as_its_reading_takes() -> None:
    (cue,) = make_cues([spoken("Twenty-two columns all", pace=0.1)], Layout(max_reading_speed=5))
    assert cue.end - cue.start == pytest.approx(22 / 5)
    (cue,) = make_cues([spoken("Yes.", pace=0.1)], Layout(min_duration=2.5))
    assert cue.end - cue.start == pytest.approx(2.5)
    (cue,) = make_cues([spoken("Slow.", pace=30)], Layout(max_duration=4))
    assert cue.end - cue.start == pytest.approx(4)


@pytest.mark.parametrize("format_", [Format.SRT, Format.VTT])
def test_a_second_library_reads_subtitles(format_: Format) -> None:
    made = Transcript(
        "id", "completed", "en", 9.0, tuple(spoken(LONG + " or so, they say. Yes!", i * 9) for i in range(5))
    )
    read = webvtt.from_buffer(io.StringIO(rendered(made, format_)), format=format_.value)
    assert [cue.text for cue in read.captions] == ["\n".join(cue.lines) for cue in make_cues(made.segments)]


def test_nothing_is_shown_after_the_recording() -> None:
    said = [spoken("quickly said, and much of it, at the end of it all", pace=0.1)]
    layout = Layout(min_duration=0.2)
    assert make_cues(said, layout)[-1].end > 1.5
    assert make_cues(said, layout, duration=1.5)[-1].end == 1.5
