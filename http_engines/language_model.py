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
from http_engines.wire.completions import Completion, Message

TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|too (long|many tokens)|exceed\w* .{0,40}token|n_ctx", re.IGNORECASE
)
"""How servers say so: OpenAI and vLLM (``maximum context length``), llama.cpp (``exceeds the available context
size``), Ollama (``input length exceeds the context length``)."""


class HttpLanguageModel:
    """Thread-safe."""

    def __init__(self, model: LanguageModel, pool: Pool, background: Background) -> None:
        self._model, self._pool, self._background = model, pool, background
        self._takes_schemas = model.schemas
        self.name = model.name
        self.prompt_tokens = model.context_tokens - model.answer_tokens
        """What a request may have, estimated."""
        self.answer_tokens = model.answer_tokens
        self.capacity = model.concurrency * len(model.hosts)

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], late_at: float | None = None
    ) -> Completion:
        """What it writes. The schema binds it where its server knows how. ``late_at`` in monotonic seconds.

        Raises EngineAway, Failed, Refused or TooLong.
        """
        if self._takes_schemas:
            try:
                return self._ask(messages, schema, late_at)
            except TooLong:
                raise
            except Refused as refused:
                completion = self._ask(messages, None, late_at)
                # it was the schema, since it takes the same without
                self._takes_schemas = "response_format" not in refused.said and "schema" not in refused.said
                return completion
        return self._ask(messages, None, late_at)

    def _ask(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, late_at: float | None
    ) -> Completion:
        question = completions.question(self._model, messages, schema)
        try:
            return self._background.run(self._pool.ask(question, 0, late_at))
        except Refused as refused:
            if TOO_LONG.search(refused.said):
                raise TooLong(str(refused), refused.said) from None
            raise
