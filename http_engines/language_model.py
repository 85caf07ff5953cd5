"""Asking a language model behind HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from http_engines.background import Background
from http_engines.endpoints import LanguageModel
from http_engines.errors import Refused, TooLong
from http_engines.pool import Pool
from http_engines.wire import completions
from http_engines.wire.completions import Completion, Format, Message, Schema

TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|too (long|many tokens)|exceed\w* .{0,40}token|n_ctx", re.IGNORECASE
)
"""How servers say so: OpenAI and vLLM (``maximum context length``), llama.cpp (``exceeds the available context
size``), Ollama (``input length exceeds the context length``)."""


class HttpLanguageModel:
    """Thread-safe."""

    def __init__(self, model: LanguageModel, pool: Pool, background: Background) -> None:
        self._model, self._pool, self._background = model, pool, background
        self._formats = completions.FORMATS if model.schemas else ()
        self.name = model.name
        self.prompt_tokens = model.context_tokens - model.answer_tokens
        """What a request may have, estimated."""
        self.answer_tokens = model.answer_tokens
        self.capacity = model.concurrency * len(model.hosts)

    def complete(self, messages: Sequence[Message], schema: Schema, late_at: float | None = None) -> Completion:
        """What it writes. The schema binds it where its server knows how. ``late_at`` in monotonic seconds.

        Raises EngineAway, Failed, Refused or TooLong.
        """
        unknown: list[Format] = []
        for format_ in self._formats:
            try:
                completion = self._ask(messages, format_(schema), late_at)
                break
            except TooLong:
                raise
            except Refused as refused:
                if completions.ABOUT_FORMAT.search(refused.said):
                    unknown.append(format_)
        else:
            completion = self._ask(messages, None, late_at)
        # it was the format, since the same was taken without
        self._formats = tuple(format_ for format_ in self._formats if format_ not in unknown)
        return completion

    def _ask(
        self, messages: Sequence[Message], response_format: Mapping[str, Any] | None, late_at: float | None
    ) -> Completion:
        question = completions.question(self._model, messages, response_format)
        try:
            return self._background.run(self._pool.ask(question, 0, late_at))
        except Refused as refused:
            if TOO_LONG.search(refused.said):
                raise TooLong(str(refused), refused.said) from None
            raise
