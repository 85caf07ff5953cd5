"""``POST /v1/chat/completions`` with an ``audio_url``, as vLLM takes it for Qwen3-ASR.

Sources: https://docs.vllm.ai/projects/recipes/en/stable/Qwen/Qwen3-ASR.html for the request,
https://github.com/QwenLM/Qwen3-ASR for the answer's text, and the model's chat template, which renders system
messages as context and drops any other text. So the language cannot be forced by words, and a beginning of the
answer is rendered only where the server was started with a template that does so (``docker/qwen3-asr.jinja``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from http_engines.endpoints import RemoteModel
from http_engines.wire import audio
from http_engines.wire.question import Question, finite
from speech.asr import qwen
from speech.asr.untimed import Heard
from speech.engines import SAMPLE_RATE, Utterance
from speech.text.retiming import words_of

TOKENS, TOKENS_PER_SECOND = 64, 16
"""What an answer may have: several times what anybody says, so that a loop ends."""


def question(model: RemoteModel, utterance: Utterance, context: str) -> Question[Heard]:
    seconds = len(utterance.samples) / SAMPLE_RATE
    url = utterance.url if model.audio == "url" else None
    sound = {"url": url or audio.data_url(utterance.samples, model.format)}
    messages: list[dict[str, Any]] = [{"role": "system", "content": context}] if context else []
    messages.append({"role": "user", "content": [{"type": "audio_url", "audio_url": sound}]})
    body: dict[str, Any] = {
        "model": model.served_name,
        "messages": messages,
        "temperature": 0.0,
        "max_tokens": TOKENS + math.ceil(TOKENS_PER_SECOND * seconds),
        "logprobs": True,
    }
    forced = utterance.language if model.forces_language and utterance.language in qwen.LANGUAGES else None
    if forced is not None:
        messages.append({"role": "assistant", "content": qwen.forced_prefix(forced)})
        # vLLM's own fields: the answer goes on from there
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return Question("/v1/chat/completions", {"json": body}, lambda answer: read(answer, forced))


def read(answer: Any, forced: str | None) -> Heard:
    """Raises like ``Question.read``."""
    choice = answer["choices"][0]
    raw = choice["message"]["content"]
    if raw is None:
        raw = ""
    if not isinstance(raw, str):
        raise TypeError("the content is no text")
    parts = qwen.parse(raw, forced)
    tokens = (choice.get("logprobs") or {}).get("content") or []
    words = [word.text for part in parts for word in words_of(part.text)]
    return Heard(parts, raw, confidences=_confidences(words, tokens))


def _confidences(words: Sequence[str], tokens: Sequence[Any]) -> list[float]:
    """The geometric mean of the probabilities of each word's tokens; none if the words are not found in them."""
    spelled = b"".join(pieces := [_bytes(token) for token in tokens])
    ends: list[int] = []
    for piece in pieces:
        ends.append((ends[-1] if ends else 0) + len(piece))
    confidences, at, token = [], spelled.find(qwen.TEXT_TAG.encode()) + 1, 0
    for word in words:
        start = spelled.find(word.encode(), at)
        if start < 0:
            return []
        at = start + len(word.encode())
        while token < len(ends) and ends[token] <= start:
            token += 1
        last = token
        while last < len(ends) and ends[last] < at:
            last += 1
        logprobs = [finite(tokens[i]["logprob"]) for i in range(token, min(last + 1, len(tokens)))]
        confidences.append(math.exp(min(sum(logprobs) / len(logprobs), 0.0)))
    return confidences


def _bytes(token: Any) -> bytes:
    given = token.get("bytes")
    return bytes(given) if given is not None else str(token["token"]).encode()
