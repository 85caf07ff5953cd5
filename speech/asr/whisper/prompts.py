"""Prompts: hotwords and the text of the chunk so far, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import Task
from speech.asr.whisper.model import LoadedModel
from speech.engines import SAMPLE_RATE, Said
from speech.text.script import join_words


class Prompts:
    """Builds prompts with a model's vocabulary."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def hotword_tokens(self, hotwords: Sequence[str]) -> list[int]:
        text = ", ".join(hotwords)
        return list(self._model.tokenizer(Task("en")).encode(" " + text)) if text else []

    def transcript(self, before: Sequence[Said], task: Task) -> list[int]:
        """What was said one behind the other, as the model writes it: with its times."""
        tokenizer, tokens, begin = self._model.tokenizer(task), list[int](), 0.0
        for said in before:
            if said.words:
                first, last = (
                    tokenizer.timestamp_begin + round((begin + at) / self._model.timestamp_seconds)
                    for at in (said.words[0].start, said.words[-1].end)
                )
                tokens += [first, *tokenizer.encode(f" {join_words(said.words)}"), last]
            begin += len(said.samples) / SAMPLE_RATE
        return tokens

    def build(self, chunk: ChunkState) -> list[int]:
        """Hotwords and the latest context tokens; half of the decoder's length stays free for its output."""
        room = self._model.max_tokens // 2 - 1
        hotwords = chunk.hotword_tokens[-room:]
        length = min(len(chunk.context_tokens), room - len(hotwords))
        return hotwords + chunk.context_tokens[len(chunk.context_tokens) - length :]
