"""``POST /v1/chat/completions`` of text alone, as OpenAI, vLLM, Ollama and llama.cpp's server take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from http_engines.endpoints import LanguageModel
from http_engines.wire.question import Question

Message = Mapping[str, str]
"""``role`` and ``content``."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a language model wrote."""

    text: str
    cut: bool
    """Whether it had more to say than it was given tokens for."""
    prompt_tokens: int
    completion_tokens: int
    """As the server counts; 0 where it does not."""


def question(
    model: LanguageModel, messages: Sequence[Message], schema: Mapping[str, Any] | None
) -> Question[Completion]:
    """``schema``: JSON Schema of the answer; None for a server that takes none."""
    body: dict[str, Any] = {
        "model": model.served_name,
        "messages": list(messages),
        "temperature": 0.0,
        "max_tokens": model.answer_tokens,
    }
    if schema is not None:
        described = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return Question("/v1/chat/completions", {"json": body}, read)


def read(answer: Any) -> Completion:
    """Raises like ``Question.read``."""
    choice = answer["choices"][0]
    text = choice["message"]["content"]
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    usage = answer.get("usage") or {}
    return Completion(
        text,
        choice.get("finish_reason") == "length",
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
