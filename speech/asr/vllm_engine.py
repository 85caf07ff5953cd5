"""Qwen3-ASR in this process through vLLM (the ``vllm`` extra): for one machine with a GPU of its own.

The prompt is that of the model's chat template, written out, so that the language can be forced. Nothing here was
run by the tests, which have no GPU: what the model says is parsed by the code that parses it behind HTTP.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from speech.asr import qwen
from speech.asr.echo import is_echo
from speech.asr.loops import break_loop, is_loop
from speech.asr.untimed import Heard, build_hypothesis
from speech.engines import SAMPLE_RATE, Aligner, EngineInfo, EngineUnavailable, Utterance
from speech.text.words import Hypothesis

MAX_TOKENS = 544
"""Of an answer: several times what is said in 30 s."""

MAX_MODEL_TOKENS = 4096
AUDIO = "<|audio_start|><|audio_pad|><|audio_end|>"


class VllmEngine:
    """A loaded model. Calls are serialised: vLLM batches what one call brings."""

    languages = qwen.LANGUAGES
    translates = False
    takes_hotwords = True
    capacity = 32

    def __init__(self, model: str, load_aligner: Callable[[], Aligner]) -> None:
        """``model`` is a folder, or a name on the hub. Raises EngineUnavailable."""
        try:
            vllm: Any = importlib.import_module("vllm")
        except (ImportError, OSError) as error:
            raise EngineUnavailable(
                f"The engine vllm needs vLLM and a GPU (pip install 'longhand[vllm]'): {error}."
            ) from error
        try:
            self._model: Any = vllm.LLM(model=model, max_model_len=MAX_MODEL_TOKENS)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"{model} cannot load in vLLM: {error}") from error
        self._sampling: Any = vllm.SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
        self._load_aligner = load_aligner
        self._lock = threading.Lock()
        self.info = EngineInfo("vllm", model, "cuda", "bfloat16")

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order."""
        heard = self._hear(utterances, with_context=True)
        echoes = [i for i, u in enumerate(utterances) if is_echo(heard[i].text, u.hotwords)]
        again = self._hear([utterances[i] for i in echoes], with_context=False)
        for place, other in zip(echoes, again, strict=True):
            heard[place] = other
        hypotheses = [
            build_hypothesis(utterance, each, [self._load_aligner])
            for utterance, each in zip(utterances, heard, strict=True)
        ]
        return [
            break_loop(utterance, hypothesis, self.transcribe) if is_loop(hypothesis) else hypothesis
            for utterance, hypothesis in zip(utterances, hypotheses, strict=True)
        ]

    def _hear(self, utterances: Sequence[Utterance], *, with_context: bool) -> list[Heard]:
        if not utterances:
            return []
        requests = [
            {
                "prompt": _prompt(qwen.context(u.hotwords) if with_context else "", _forced(u)),
                "multi_modal_data": {"audio": (u.samples, SAMPLE_RATE)},
            }
            for u in utterances
        ]
        with self._lock:
            outputs = self._model.generate(requests, self._sampling, use_tqdm=False)
        answers = [output.outputs[0].text for output in outputs]
        return [
            Heard(qwen.parse(answer, _forced(utterance)), answer)
            for utterance, answer in zip(utterances, answers, strict=True)
        ]


def _forced(utterance: Utterance) -> str | None:
    return utterance.language if utterance.language in qwen.LANGUAGES else None


def _prompt(context: str, forced: str | None) -> str:
    return (
        f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n{AUDIO}<|im_end|>\n<|im_start|>assistant\n"
        f"{qwen.forced_prefix(forced) if forced else ''}"
    )
