"""What models without times write: parsing it, telling echoes from speech, and timing its words."""

from __future__ import annotations

import time
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.asr import qwen
from speech.asr.echo import is_echo
from speech.asr.qwen import Part
from speech.asr.whisper.aligner import WhisperAligner
from speech.engines import Utterance
from speech.load import load_aligner, load_refine
from speech.models.catalogue import Catalogue
from speech.models.names import RefineEngine
from speech.text.retiming import words_of
from speech.text.timeline import Timeline
from speech.text.timing import degenerate, timed
from speech.text.words import Hypothesis, Phrase, Word
from tests.conftest import MODELS
from tests.media import load


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("language English<asr_text>Hello there.", [("Hello there.", "en")]),
        ("language\nEnglish\n<asr_text>Hello.<|im_end|>", [("Hello.", "en")]),
        ("LANGUAGE chinese <asr_text>你好。", [("你好。", "zh")]),
        ("language Cantonese<asr_text>你好", [("你好", "yue")]),
        ("language Chinese,English<asr_text>你好 hello", [("你好 hello", "zh")]),
        ("language Chinese<asr_text>你好language English<asr_text>Bye.", [("你好", "zh"), ("Bye.", "en")]),
        ("language English<asr_text>One.language English<asr_text>Two.", [("One. Two.", "en")]),
        ("language Uyghur<asr_text>ياخشى", [("ياخشى", None)]),
        ("language None<asr_text>", []),
        ("language None<asr_text>Hm.", [("Hm.", None)]),
        ("language English<asr_text>", []),
        ("language English", []),
        ("English<asr_text>Hello.", [("Hello.", "en")]),
        ("<asr_text>Hello.", [("Hello.", None)]),
        ("Hello.", [("Hello.", None)]),
        ("The language English speakers use.", [("The language English speakers use.", None)]),
        ("language English<asr_text>lymph \ufffd", [("lymph", "en")]),
        ("language Chinese<asr_text>" + "嗯" * 300, [("嗯", "zh")]),
        ("", []),
        ("<|endoftext|>", []),
    ],
)
def test_answers_of_qwen(answer: str, parts: list[tuple[str, str | None]]) -> None:
    assert qwen.parse(answer) == [Part(*part) for part in parts]


def test_under_a_forced_language_an_answer_is_plain_text() -> None:
    assert qwen.forced_prefix("de") == "language German<asr_text>"
    assert qwen.parse("Guten Tag.", "de") == [Part("Guten Tag.", "de")]


@given(st.text(max_size=300))
def test_no_answer_is_too_malformed(answer: str) -> None:
    for part in qwen.parse(answer) + qwen.parse(f"language English<asr_text>{answer}"):
        assert part.text
        assert "<asr_text>" not in part.text
        assert "<|" not in part.text or "|>" not in part.text


@pytest.mark.parametrize("code", sorted(qwen.LANGUAGES))
def test_every_language_has_the_models_name(code: str) -> None:
    assert qwen.language_code(qwen.language_name(code)) == code


@pytest.mark.parametrize(
    ("text", "hotwords", "preceding", "echo"),
    [
        ("淋巴结 臀位 积液 颈部 脾脏 胰腺", ("淋巴结", "臀位", "积液", "颈部"), "", True),
        ("Ada, Grace and Barbara met.", ("Ada", "Grace", "Barbara"), "", False),
        ("Ada Grace Barbara met.", ("Ada", "Grace", "Barbara"), "", True),
        ("Ada Ada Ada", ("Ada",), "", True),
        ("Ada.", ("Ada",), "", True),
        ("I met Ada.", ("Ada",), "", False),
        ("", ("Ada",), "", False),
        ("I met Ada.", (), "", False),
        ("so it was late. We met.", (), "and so it was late.", True),
        ("It was. We met.", (), "and so it was late.", False),
    ],
)
def test_echoes(text: str, hotwords: tuple[str, ...], preceding: str, echo: bool) -> None:
    assert is_echo(text, hotwords, preceding) is echo


def test_no_text_takes_long_to_search() -> None:
    """It is searched where all requests of a worker are answered."""
    terms = [f"{first}{second}" for first in "abcdefgh" for second in "klmnopqr"]
    begun = time.monotonic()
    assert is_echo(" ".join(terms * 50)[: qwen.MAX_CHARACTERS], terms)
    assert qwen.parse("a language" + " " * qwen.MAX_CHARACTERS + "!")
    assert time.monotonic() - begun < 2


TIMES = st.floats(0, 10, allow_nan=False)


@given(
    text=st.lists(st.sampled_from(["we", "met", "on", "Monday.", "我们", "a"]), min_size=1, max_size=20),
    units=st.lists(
        st.tuples(st.sampled_from(["we", "met", "on", "Monday", "我", "x"]), TIMES, TIMES), max_size=20
    ),
    duration=st.floats(0.5, 10),
)
def test_timed_words_last_and_are_in_order(
    text: list[str], units: list[tuple[str, float, float]], duration: float
) -> None:
    placed = timed(" ".join(text), [Word(t, s, e, 1.0) for t, s, e in units], duration)
    assert [word.text for word in placed] == [word.text for word in words_of(" ".join(text))]
    assert all(0 <= word.start < word.end <= duration + 1e-6 for word in placed)
    assert all(before.start <= after.start for before, after in pairwise(placed))


def test_zeros_are_no_times() -> None:
    assert degenerate([Word("a", 0.0, 0.0, 1.0)] * 3)
    assert not degenerate([Word("a", 0.1, 0.5, 1.0), Word("b", 0.5, 0.5, 1.0)])


def test_words_of_the_recording_are_lifted_into_their_chunk() -> None:
    timeline = Timeline.of([(10.0, 12.0), (20.0, 25.0)])
    words = (Word("a", 0.5, 1.0, 1.0), Word("b", 2.5, 3.0, 1.0))
    heard = Hypothesis("en", (Phrase(0.5, 3.0, "a b", words),))
    assert timeline.lift(timeline.place(heard)) == heard


@pytest.fixture(scope="module")
def aligner() -> WhisperAligner:
    made = load_aligner(Catalogue(MODELS), device="cpu")
    assert isinstance(made, WhisperAligner)
    return made


def test_whisper_times_a_text_that_it_did_not_write(aligner: WhisperAligner) -> None:
    samples = load("jfk.flac")
    utterance = Utterance(samples, language="en")
    (own,) = load_refine(Catalogue(MODELS), RefineEngine.WHISPER, device="cpu").transcribe([utterance])
    text = " ".join(phrase.text for phrase in own.phrases)
    placed = timed(text, aligner.align(samples, text, "en"), len(samples) / 16_000)
    assert jiwer.wer(text, " ".join(word.text for word in placed)) == 0
    off = [abs(a.start - b.start) for a, b in zip(own.words, placed, strict=True)]
    assert np.median(off) < 0.1
    assert aligner.name == "whisper base"


def test_a_text_that_is_longer_than_whispers_decoder(aligner: WhisperAligner) -> None:
    with pytest.raises(ValueError, match="more than"):
        aligner.align(load("jfk.flac"), "word " * 900, "en")
