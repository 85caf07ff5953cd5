"""``POST /v1/chat/completions`` of text alone, as OpenAI, vLLM, Ollama and llama.cpp's server take it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from http_engines.endpoints import LanguageModel
from http_engines.wire.question import Question

PATH = "/v1/chat/completions"

Message = Mapping[str, str]
"""``role`` and ``content``."""

Schema = Mapping[str, Any]
Format = Callable[[Schema], Mapping[str, Any]]
"""A way to send the JSON Schema of an answer: the ``response_format`` that it is sent in."""


def as_json_schema(schema: Schema) -> Mapping[str, Any]:
    """OpenAI's."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def as_json_object(schema: Schema) -> Mapping[str, Any]:
    """That of llama-cpp-python and others from before there was OpenAI's."""
    return {"type": "json_object", "schema": schema}


FORMATS: tuple[Format, ...] = (as_json_schema, as_json_object)
"""The most binding first."""

ABOUT_FORMAT = re.compile(r"response_format|schema", re.IGNORECASE)
"""In what a server says of a request whose format it does not know; llama-cpp-python says so with 500."""


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
    model: LanguageModel, messages: Sequence[Message], response_format: Mapping[str, Any] | None
) -> Question[Completion]:
    """``response_format``: None for a server that takes none."""
    body: dict[str, Any] = {
        "model": model.served_name,
        "messages": list(messages),
        "temperature": 0.0,
        "max_tokens": model.answer_tokens,
    }
    if response_format is None:
        return Question(PATH, {"json": body}, read)
    return Question(PATH, {"json": body | {"response_format": response_format}}, read, ABOUT_FORMAT)


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
