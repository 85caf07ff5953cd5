"""The embedded engine around a stand-in for vLLM, which cannot run here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from speech.asr.vllm_engine import VllmEngine
from speech.engines import SAMPLE_RATE, Aligner, EngineUnavailable, Utterance

SOUND = np.zeros(2 * SAMPLE_RATE, np.float32)


def no_aligner() -> Aligner:
    raise EngineUnavailable("none here")


class StandIn:
    """Answers by the prompt alone."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.prompts: list[str] = []

    def generate(self, requests: Sequence[dict[str, Any]], sampling: Any, *, use_tqdm: bool) -> list[Any]:
        self.prompts += [request["prompt"] for request in requests]
        return [SimpleNamespace(outputs=[SimpleNamespace(text=self._answer(r["prompt"]))]) for r in requests]

    def _answer(self, prompt: str) -> str:
        if "Ada, Grace, Barbara" in prompt:
            return "language English<asr_text>Ada Grace Barbara"
        return "Guten Tag." if prompt.endswith("language German<asr_text>") else "language English<asr_text>Hello."


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    fake = SimpleNamespace(LLM=StandIn, SamplingParams=lambda **arguments: arguments)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return VllmEngine("Qwen/Qwen3-ASR-0.6B", no_aligner)


def test_languages_context_and_echoes(engine: VllmEngine) -> None:
    heard = engine.transcribe(
        [
            Utterance(SOUND),
            Utterance(SOUND, language="de"),
            Utterance(SOUND, hotwords=("Ada", "Grace", "Barbara")),
        ]
    )
    said = [(h.language, " ".join(p.text for p in h.phrases)) for h in heard]
    assert said == [("en", "Hello."), ("de", "Guten Tag."), ("en", "Hello.")]
    assert {h.word_times for h in heard} == {"spread"}
    first, _, named, again = engine._model.prompts
    assert first == again
    assert first.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|audio_start|>")
    assert named.startswith("<|im_start|>system\nAda, Grace, Barbara<|im_end|>\n")


def test_without_vllm_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineUnavailable, match=r"longhand\[vllm\]"):
        VllmEngine("Qwen/Qwen3-ASR-0.6B", no_aligner)
