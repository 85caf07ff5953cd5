"""Agreement, re-framing and utterances, by properties."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.agreement import Agreement, best_beginning, key
from live.audio import PcmReader
from live.utterances import Ended, Endpointer, Heard
from speech.text.words import Word

FRAME = 512

words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=8)


def as_words(texts: list[str]) -> tuple[Word, ...]:
    return tuple(Word(text, float(i), i + 1.0, 1.0) for i, text in enumerate(texts))


@given(st.lists(words, max_size=8), words)
def test_what_is_stable_is_never_revised(hypotheses: list[list[str]], last: list[str]) -> None:
    agreement = Agreement()
    before: tuple[Word, ...] = ()
    for texts in hypotheses:
        stable, _ = agreement.add(as_words(texts))
        assert stable[: len(before)] == before
        before = stable
    assert agreement.finish(as_words(last))[: len(before)] == before


@given(words.filter(bool), st.integers(2, 5))
def test_what_stays_the_same_becomes_stable_but_for_the_newest_word(texts: list[str], times: int) -> None:
    agreement = Agreement()
    for _ in range(times):
        stable, unstable = agreement.add(as_words(texts))
    assert [word.text for word in stable + unstable] == texts
    assert len(unstable) == 1
    assert [word.text for word in agreement.finish(as_words(texts))] == texts


def test_a_word_is_not_doubled_where_the_beginning_is_heard_otherwise() -> None:
    agreement = Agreement()
    agreement.add(as_words(["we", "met", "on", "monday", "and"]))
    agreement.add(as_words(["we", "met", "on", "monday", "and", "then"]))
    final = agreement.finish(as_words(["he", "met", "on", "Monday,", "and", "then", "left"]))
    assert [word.text for word in final] == ["we", "met", "on", "monday", "and", "then", "left"]


@given(words, words)
def test_the_best_beginning_is_all_that_was_said_where_that_is_heard(said: list[str], rest: list[str]) -> None:
    assert best_beginning(said, said + rest) >= len(said)
    assert 0 <= best_beginning(said, rest) <= len(rest)


def test_words_are_the_same_but_for_case_and_punctuation() -> None:
    assert key(as_words(["Monday,"])[0]) == key(as_words(["monday"])[0])
    assert key(as_words(["—"])[0]) == "—"


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (16_000, 2), (8_000, 1), (44_100, 1), (48_000, 2)])
@settings(deadline=None)  # the first resampler takes its time
@given(cuts=st.lists(st.integers(0, 8_000), max_size=6))
def test_messages_may_end_anywhere(rate: int, channels: int, cuts: list[int]) -> None:
    data = np.random.default_rng(0).integers(-20_000, 20_000, 2_000 * channels, np.int16).tobytes()
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})

    def read(places: list[int]) -> list[int]:
        reader = PcmReader(rate, channels)
        parts = [reader.push(data[at:to]) for at, to in pairwise(places)]
        return [int(sample) for part in [*parts, reader.flush()] for sample in part]

    whole = read([0, len(data)])
    assert read(places) == whole
    assert len(whole) == pytest.approx(2_000 * 16_000 / rate, abs=40)


def test_sound_goes_on_after_a_flush() -> None:
    reader = PcmReader(24_000, 1)
    tone = np.sin(np.arange(24_000) / 10)
    data = (10_000 * tone).astype("<i2").tobytes()
    first = [reader.push(data), reader.flush()]
    again = [reader.push(data), reader.flush()]
    assert np.concatenate(again).tolist() == np.concatenate(first).tolist()


probabilities = st.lists(st.sampled_from([0.0, 0.4, 0.9]), max_size=200)


@given(probabilities, st.integers(1, 7), st.integers(0, 3))
def test_utterances_depend_on_the_probabilities_alone(frames: list[float], size: int, begin: int) -> None:
    def boundaries(size: int) -> list[tuple[int, int]]:
        """Spans of whole utterances."""
        endpointer = Endpointer(FRAME, begin=begin * FRAME)
        found = [each for at in range(0, len(frames), size) for each in endpointer.push(frames[at : at + size])]
        spans: list[tuple[int, int]] = []
        current: tuple[int, int] | None = None
        for each in [*found, *endpointer.flush()]:
            if isinstance(each, Heard):
                assert current is None or each.start == current[1], "no gap within an utterance"
                current = (current[0] if current else each.start, each.end)
            elif isinstance(each, Ended) and current is not None:
                spans.append(current)
                current = None
        assert current is None
        return spans

    spans = boundaries(size)
    assert spans == boundaries(1)
    flat = [place for span in spans for place in span]
    assert flat == sorted(flat)
    assert all(begin * FRAME <= place <= (begin + len(frames)) * FRAME for place in flat)


def test_first_words_are_whole_and_long_speech_ends_somewhere() -> None:
    silence, speech = [0.0] * 31, [0.9] * 31
    endpointer = Endpointer(FRAME)
    (first, *_) = endpointer.push(silence + speech)
    assert isinstance(first, Heard)
    assert first.start == 31 * FRAME - 4_800
    ends = [each for each in endpointer.push([0.9] * 31 * 40) if isinstance(each, Ended)]
    assert len(ends) == 2
