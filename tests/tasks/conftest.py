from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from db.settings import Settings
from speech.audio.isolated.client import IsolatedDecoder
from speech.engines import EngineInfo, Transcriber, Utterance
from speech.load import Serving
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Phrase, Word
from tasks.runtime import Runtime

Hear = Callable[[Utterance], str]


def reading(text: str, confidence: float = 0.9) -> Hypothesis:
    words = tuple(Word(w, i * 0.5, i * 0.5 + 0.4, confidence) for i, w in enumerate(text.split()))
    phrases = (Phrase(0.0, words[-1].end, text, words, confidence),) if words else ()
    return Hypothesis("en", phrases, {})


class FakeEngine:
    """Says what it is told to, or raises it."""

    languages = LANGUAGES

    def __init__(self, name: str, hear: Hear) -> None:
        self.info = EngineInfo(name, "fake", "cpu", "int8")
        self._hear = hear
        self.batches: list[int] = []

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        self.batches.append(len(utterances))
        return [reading(self._hear(utterance)) for utterance in utterances]


DECODER = IsolatedDecoder()


class FakeRuntime(Runtime):
    """Real servers, engines of our own, one decoding server for all tests."""

    decoder = DECODER

    def __init__(self, settings: Settings, draft: Hear, refine: Hear) -> None:
        super().__init__(settings)
        self.draft_engine = FakeEngine("draft", draft)
        self.refine_engine = FakeEngine("refine", refine)

    def drafter(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        return Serving(self.draft_engine, self.draft_engine.info)

    def refiner(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        return Serving(self.refine_engine, self.refine_engine.info)


@pytest.fixture
def make_runtime(settings: Settings) -> Callable[..., FakeRuntime]:
    def make(
        draft: Hear = lambda _: "we met on monday", refine: Hear = lambda _: "we met on Monday", **changes: object
    ) -> FakeRuntime:
        quick = {"retry_seconds": 0.001, "max_attempts": 3, "models_dir": settings.models_dir} | changes
        return FakeRuntime(settings.model_copy(update=quick), draft, refine)

    return make
