"""Breaking loops, with a transcriber that repeats itself where it is told to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speech.asr.loops import break_loop, is_loop, quietest_middle
from speech.engines import SAMPLE_RATE, Utterance
from speech.text.words import Hypothesis, Phrase, Word


def hypothesis(text: str, seconds: float, ratio: float = 1.2) -> Hypothesis:
    texts = text.split()
    step = seconds / max(len(texts), 1)
    words = tuple(Word(word, i * step, (i + 1) * step, 0.9) for i, word in enumerate(texts))
    phrases = (Phrase(0.0, seconds, text, words, 0.9),) if words else ()
    return Hypothesis("en", phrases, {"compression_ratio": ratio, "avg_logprob": -0.3, "temperature": 0.0})


class Looping:
    """Repeats itself in audio longer than ``seconds``, else tells how loud it is."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.heard: list[float] = []

    def __call__(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        return [self._one(utterance) for utterance in utterances]

    def _one(self, utterance: Utterance) -> Hypothesis:
        seconds = len(utterance.samples) / SAMPLE_RATE
        self.heard.append(seconds)
        if seconds > self._seconds:
            return break_loop(utterance, hypothesis("and then " * 20, seconds, 9.0), self)
        return hypothesis(f"level {round(float(utterance.samples.max()) * 10)}", seconds)


def steps() -> Utterance:
    """Four tones of 6 s, each louder than the last, with silence after the second."""
    tone = np.sin(np.arange(6 * SAMPLE_RATE)).astype(np.float32)
    pieces = [tone * 0.1, tone * 0.2, np.zeros(SAMPLE_RATE // 2, np.float32), tone * 0.3, tone * 0.4]
    return Utterance(np.concatenate(pieces))


def test_both_halves_are_decoded_and_lie_where_they_were_said() -> None:
    transcribe = Looping(15)
    (found,) = transcribe([steps()])
    assert not is_loop(found)
    assert [word.text for word in found.words] == ["level", "2", "level", "4"]
    assert [round(phrase.start) for phrase in found.phrases] == [0, 12]
    assert sum(transcribe.heard[1:]) == transcribe.heard[0]


def test_what_repeats_itself_to_the_end_is_said_once() -> None:
    transcribe = Looping(0)
    (found,) = transcribe([steps()])
    assert not is_loop(Hypothesis("en", found.phrases))
    assert {word.text for word in found.words} == {"and", "then"}
    assert len(found.words) == 2 * sum(1 for seconds in transcribe.heard if seconds < 8)
    assert min(transcribe.heard) > 2


def test_the_cut_is_in_the_quiet() -> None:
    middle = quietest_middle(steps().samples) / SAMPLE_RATE
    assert 12 <= middle <= 12.5


def test_silence_is_cut_too() -> None:
    (found,) = Looping(7)([Utterance(np.zeros(10 * SAMPLE_RATE, np.float32))])
    assert [word.text for word in found.words] == ["level", "0"] * 2
