"""Engines with scripted output, in a runtime with real servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from db.settings import Settings
from speech.audio.isolated.client import IsolatedDecoder
from speech.engines import EngineInfo, Transcriber, Utterance
from speech.load import SelectedEngine
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Phrase, Word
from tasks.engines import ANY, Engines, Wanted
from tasks.runtime import Runtime

Transcribe = Callable[[Utterance], str]
"""The text of an utterance; may raise."""


def make_hypothesis(text: str, confidence: float = 0.9) -> Hypothesis:
    words = tuple(Word(w, i * 0.5, i * 0.5 + 0.4, confidence) for i, w in enumerate(text.split()))
    phrases = (Phrase(0.0, words[-1].end, text, words, confidence),) if words else ()
    return Hypothesis("en", phrases, {})


class FakeEngine:
    """Transcribes by a function, and records the sizes of its batches."""

    languages = LANGUAGES
    translates = False
    takes_hotwords = True

    def __init__(self, name: str, transcribe: Transcribe) -> None:
        self.info = EngineInfo(name, "fake", "cpu", "int8")
        self._transcribe = transcribe
        self.batches: list[int] = []

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        self.batches.append(len(utterances))
        return [make_hypothesis(self._transcribe(utterance)) for utterance in utterances]


class FakeEngines(Engines):
    """Drafts and refines with the runtime's fake engines; other roles load the real ones."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime.settings, lambda: runtime.version_cache)
        self._runtime = runtime

    def drafter(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        return SelectedEngine(self._runtime.draft_engine, self._runtime.draft_engine.info)

    def refiner(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        return SelectedEngine(self._runtime.refine_engine, self._runtime.refine_engine.info)


DECODER = IsolatedDecoder()
"""One decoding server for all tests."""


class FakeRuntime(Runtime):
    decoder = DECODER

    def __init__(self, settings: Settings, draft: Transcribe, refine: Transcribe) -> None:
        super().__init__(settings)
        self.draft_engine = FakeEngine("draft", draft)
        self.refine_engine = FakeEngine("refine", refine)
        self.engines = FakeEngines(self)
