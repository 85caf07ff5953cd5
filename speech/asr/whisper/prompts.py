"""Prompts: hotwords and the preceding text, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.model import LoadedModel
from speech.text.words import Phrase

MAX_TIMESTAMP_SECONDS = 30.0


class Prompts:
    """Builds prompts with a model's vocabulary."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def hotword_tokens(self, hotwords: Sequence[str]) -> list[int]:
        return self._text_tokens(", ".join(hotwords))

    def context_tokens(self, chunk: ChunkState) -> list[int]:
        """The phrases of earlier chunks that are in the chunk's own language."""
        phrases = [phrase for phrase in chunk.previous_phrases if phrase.language in (None, chunk.language)]
        return [token for phrase in phrases for token in self._phrase_tokens(phrase)]

    def build(self, chunk: ChunkState) -> list[int]:
        """Hotwords and the latest context tokens; half of the decoder's length stays free for its output."""
        room = self._model.max_tokens // 2 - 1
        hotwords = chunk.hotword_tokens[-room:]
        length = min(len(chunk.context_tokens), room - len(hotwords))
        return hotwords + chunk.context_tokens[len(chunk.context_tokens) - length :]

    def _text_tokens(self, text: str) -> list[int]:
        return list(self._model.tokenizer("en").encode(" " + text)) if text else []

    def _phrase_tokens(self, phrase: Phrase) -> list[int]:
        """A phrase between its timestamps, as the model writes it: without them it stops writing timestamps."""
        zero, precision = self._model.tokenizer("en").timestamp_begin, self._model.timestamp_seconds
        start, end = (
            zero + round(min(max(t, 0.0), MAX_TIMESTAMP_SECONDS) / precision) for t in (phrase.start, phrase.end)
        )
        return [start, *self._text_tokens(phrase.text), end]
