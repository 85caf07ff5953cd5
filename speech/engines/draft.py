"""Drafting with Whisper where SenseVoice is not present: the smallest model that knows the language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from speech.engines.base import EngineInfo, Utterance
from speech.engines.whisper import WhisperEngine
from speech.words import Hypothesis


class WhisperDraft:
    """English goes to an English-only model, which is fast; everything else to a multilingual one."""

    def __init__(self, english: WhisperEngine, multilingual: WhisperEngine) -> None:
        self._english, self._multilingual = english, multilingual
        info = english.info
        self.info = EngineInfo(
            info.engine,
            f"{english.info.model}+{multilingual.info.model}",
            info.device,
            info.compute_type,
        )

    @property
    def languages(self) -> frozenset[str]:
        return self._multilingual.languages

    def detect_language(self, utterance: Utterance) -> str:
        return self._multilingual.detect_language(utterance)

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        groups: dict[bool, list[int]] = defaultdict(list)
        for position, utterance in enumerate(utterances):
            groups[utterance.language == "en"].append(position)
        found: dict[int, Hypothesis] = {}
        for english, positions in groups.items():
            engine = self._english if english else self._multilingual
            hypotheses = engine.transcribe([utterances[i] for i in positions])
            found |= dict(zip(positions, hypotheses, strict=True))
        return [found[i] for i in range(len(utterances))]
