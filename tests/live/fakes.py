"""Engines that cost nothing, whose words tell where in the sound they were heard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from db.settings import Settings
from live.assembly import load_voice_detection
from live.inprocess.detection import InProcessVad
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.stages import Stages
from speech.engines import SAMPLE_RATE, EngineInfo, Said, Samples, Utterance
from speech.text.words import Hypothesis, Phrase, Word

WORD_SECONDS = 0.5


class CountingEngine:
    """Says one word for each half a second of sound: how loud it is there, so that equal sound has equal words."""

    info = EngineInfo("fake", "counting", "cpu", "int8")
    languages = frozenset({"en"})
    translates = False
    takes_hotwords = True

    def __init__(self) -> None:
        self.calls = 0
        self.before: tuple[Said, ...] = ()
        """What was said before the last utterance."""

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        self.calls += 1
        self.before = utterances[-1].before
        return [self._hypothesis(utterance.samples) for utterance in utterances]

    def _hypothesis(self, samples: Samples) -> Hypothesis:
        size = int(WORD_SECONDS * SAMPLE_RATE)
        words = tuple(
            Word(f"w{self._name(samples[at : at + size])}", at / SAMPLE_RATE, (at + size) / SAMPLE_RATE, 0.9)
            for at in range(0, len(samples) - size + 1, size)
        )
        phrase = Phrase(0.0, len(samples) / SAMPLE_RATE, " ".join(word.text for word in words), words, 0.9)
        return Hypothesis("en", (phrase,) if words else ())

    @staticmethod
    def _name(samples: Samples) -> int:
        return int(1000 * np.abs(samples).mean())


def fake_stages(settings: Settings, engine: CountingEngine | None = None, sessions: int = 8) -> Stages:
    recognizer = InProcessRecognizer(
        engine or CountingEngine(), EnginePool(1), sessions=sessions, interval_seconds=0.05
    )
    return Stages(InProcessVad(load_voice_detection(settings)), recognizer)
