"""Drafting with Whisper where SenseVoice is not present: the smallest model that knows the language."""

from __future__ import annotations

from collections.abc import Sequence

from speech.asr.whisper.engine import WhisperEngine
from speech.engines import EngineInfo, Utterance
from speech.text.words import Hypothesis

MIN_ENGLISH_LOGPROB = -0.9
"""Below this average log probability of the English model, the language is detected with the multilingual one."""


class WhisperDraftEngine:
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

    @property
    def translates(self) -> bool:
        return self._multilingual.translates

    @property
    def takes_hotwords(self) -> bool:
        return self._multilingual.takes_hotwords

    def detect_language(self, utterance: Utterance) -> str:
        return self._multilingual.detect_language(utterance)

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        english = [i for i, u in enumerate(utterances) if (u.language or u.expected) == "en" and not u.translate]
        drafts = self._english.transcribe([utterances[i] for i in english])
        results = dict(zip(english, drafts, strict=True))
        results = {i: draft for i, draft in results.items() if not self._is_other_language(utterances[i], draft)}
        others = [i for i in range(len(utterances)) if i not in results]
        results |= zip(others, self._multilingual.transcribe([utterances[i] for i in others]), strict=True)
        return [results[i] for i in range(len(utterances))]

    def _is_other_language(self, utterance: Utterance, draft: Hypothesis) -> bool:
        """Whether an improbable draft comes from speech in another language; no check if English was requested."""
        improbable = utterance.language is None and draft.signals["avg_logprob"] < MIN_ENGLISH_LOGPROB
        return improbable and self._multilingual.detect_language(utterance) != "en"
