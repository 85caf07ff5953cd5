"""Second readings and the vote on their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speech.asr.second_readings import SHIFTS, elect, is_doubtful, shifted
from speech.asr.vote import Reading, vote
from speech.asr.whisper.decoding import DecodingOptions
from speech.asr.whisper.engine import WhisperEngine
from speech.engines import Utterance
from speech.models.catalogue import Catalogue
from speech.text.words import Hypothesis, Phrase, Word
from tests.conftest import MODELS
from tests.media import load

OPTIONS = DecodingOptions(second_readings=True)
SILENCE = np.zeros(16_000, np.float32)


def words(text: str, confidence: float = 0.8, start: float = 0.0) -> tuple[Word, ...]:
    """One word a second; a confidence of its own behind a colon."""
    parts = [part.partition(":") for part in text.split()]
    return tuple(
        Word(word, start + i, start + i + 0.5, float(own or confidence)) for i, (word, _, own) in enumerate(parts)
    )


def first(*phrases: str, confidence: float = 0.8, logprob: float = -0.3) -> Hypothesis:
    made: list[Phrase] = []
    for text in phrases:
        start = made[-1].end if made else 0.0
        own = words(text, confidence, start)
        made.append(Phrase(start, start + len(own), text, own, confidence))
    return Hypothesis("en", tuple(made), {"avg_logprob": logprob})


def elected(hypothesis: Hypothesis, *others: Sequence[Word]) -> str:
    return " | ".join(phrase.text for phrase in vote(hypothesis, *map(Reading, others)).phrases)


@pytest.mark.parametrize(
    ("second", "third", "result"),
    [
        ("the cat sat", "the cat sat", "the cat sat"),
        # two against one, or one that is surer than the others, who differ
        ("the hat sat", "the hat sat", "the hat sat"),
        ("the hat:0.9 sat", "the rat:0.3 sat", "the hat sat"),
        ("the hat:0.3 sat", "the rat:0.3 sat", "the cat sat"),
        # a word that nobody else has; one that both others have; one that one of them has
        ("cat sat", "cat sat", "cat sat"),
        ("the big cat sat", "the big cat sat", "the big cat sat"),
        ("the big:1.0 cat sat", "the cat sat", "the cat sat"),
        # case and punctuation are no difference, and the first reading's stay
        ("The CAT, sat!", "the cat sat", "the cat sat"),
        # nothing in common
        ("", "", ""),
        ("on the mat", "under a hat", "the cat sat"),
    ],
)
def test_words_are_voted_on(second: str, third: str, result: str) -> None:
    assert elected(first("the cat sat"), words(second), words(third)) == result


def test_what_is_added_belongs_to_the_phrase_before_it_and_an_empty_phrase_is_none() -> None:
    spoken = words("well one and two three four", start=0.5)
    assert elected(first("one two", "three"), spoken, spoken) == "well one and two | three four"
    rest = words("three")
    assert elected(first("one two", "three"), rest, rest) == "three"
    (phrase,) = vote(first("one"), *map(Reading, (words("one two"), words("one two")))).phrases
    assert (phrase.start, phrase.end) == (0.0, 1.5)


def test_a_lighter_reading_alone_changes_nothing() -> None:
    assert elected(first("yes", confidence=0.7), words("no:0.6")) == "yes"
    heavy, light = Reading(words("no:0.6")), Reading(words("no:0.6"), weight=0.5)
    assert vote(first("yes", confidence=0.7), light).words[0].text == "yes"
    assert vote(first("yes", confidence=0.7), heavy, light).words[0].text == "no"


def test_what_is_doubtful() -> None:
    sure, unsure = first("one two three"), first("one two three", logprob=-0.7)
    same, alike, other = (
        Utterance(SILENCE, draft=words(text)) for text in ("One, two three.", "one", "four five")
    )
    assert not any(is_doubtful(said, sure) for said in (same, alike))
    assert not is_doubtful(same, unsure)
    assert is_doubtful(alike, unsure)
    assert is_doubtful(other, sure)
    # no draft to decide; nothing to doubt; a draft in another language
    assert not is_doubtful(Utterance(SILENCE), unsure)
    assert not is_doubtful(other, Hypothesis("en", (), {"avg_logprob": -0.9}))
    assert not is_doubtful(Utterance(SILENCE, draft=other.draft, translate=True), unsure)
    # no room for silence before it
    assert not is_doubtful(Utterance(np.ones(480_000, np.float32), draft=other.draft), unsure)


def test_a_draft_without_spaces_is_compared_and_votes_by_characters() -> None:
    phrase = Phrase(0.0, 2.0, "你好", (Word("你", 0.0, 1.0, 0.4), Word("吗", 1.0, 2.0, 0.4)), 0.4)
    read = Hypothesis("zh", (phrase,), {"avg_logprob": -0.3})
    heard = Utterance(SILENCE, draft=(Word("你好", 0.0, 2.0, 0.9),))
    assert not is_doubtful(heard, read)
    assert elect(heard, read, [read, read]).phrases[0].text == "你吗"
    other = Hypothesis("zh", (replace(phrase, words=(phrase.words[0], Word("好", 1.0, 2.0, 0.4))),))
    assert elect(heard, read, [read, other]).phrases[0].text == "你好"


def test_second_readings_are_later_and_their_words_are_not() -> None:
    speech = np.ones(16_000, np.float32)
    earlier, later = shifted(Utterance(speech, expected="zh"), first("one"))
    assert (earlier.language, earlier.expected) == ("en", None)
    assert [int(np.argmax(utterance.samples)) for utterance in (earlier, later)] == [4_000, 8_000]
    heard = [first("two three").shifted(shift) for shift in SHIFTS]
    (phrase,) = elect(Utterance(SILENCE, draft=words("two three")), first("one"), heard).phrases
    assert [(word.text, word.start) for word in phrase.words] == [("two", 0.0), ("three", 1.0)]


def test_a_reading_that_loops_has_no_vote() -> None:
    loop = Hypothesis("en", first("and then " * 20).phrases, {"compression_ratio": 9.0})
    heard = Utterance(SILENCE, draft=words("and then"))
    assert elect(heard, first("two"), [loop, loop]) == first("two")
    assert elect(heard, first("two"), [loop, first("and then")]).phrases[0].text == "and then"


def test_whisper_reads_again_what_differs_from_the_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = WhisperEngine(
        Catalogue(MODELS).locate("whisper-tiny.en"), name="tiny.en", decoding=OPTIONS, device="cpu"
    )
    asked: list[tuple[int, int]] = []
    generate = engine._model.generate

    def listening(encoded: object, tasks: Sequence[object], *prompts: object, **options: Any) -> object:
        asked.append((len(tasks), options["beam_size"]))
        return generate(encoded, tasks, *prompts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._model, "generate", listening)
    samples = load("jfk.flac")
    (plain,) = engine.transcribe([Utterance(samples)])
    assert asked == [(1, 5)]
    assert engine.transcribe([Utterance(samples, draft=plain.words)]) == [plain]
    assert asked == [(1, 5), (1, 5)]
    (voted,) = engine.transcribe([Utterance(samples, draft=words("something else altogether"))])
    assert asked[2:] == [(1, 5), (2, 1)]
    assert [word.text for word in voted.words] == [word.text for word in plain.words]
    batch = [Utterance(samples), Utterance(samples, draft=words("something else"))]
    assert [[word.text for word in h.words] for h in engine.transcribe_batch(batch)] == 2 * [
        [word.text for word in plain.words]
    ]
