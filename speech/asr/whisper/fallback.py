"""Fallback: a window with bad quality signals is decoded once more.

A loop goes on until the decoder has no more room, which takes as long as several good windows. So what writes more
than most people say is looked at before it may go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import LONGEST_REPEAT, TAIL_TOKENS, DecodedWindow, DecodingOptions
from speech.asr.whisper.encoder_output import select_members
from speech.asr.whisper.model import LoadedModel


class Fallback:
    """Decodes batches of windows."""

    def __init__(self, model: LoadedModel, options: DecodingOptions) -> None:
        self._model, self._options = model, options

    def decode(
        self, chunks: Sequence[ChunkState], prompts: Sequence[list[int]], encoded: Any
    ) -> list[DecodedWindow]:
        """Decode one window of each chunk: what loops again without repeats, what is improbable by sampling."""
        batch = _Batch(self._model, self._options, chunks, prompts, encoded)
        firsts = batch.decode(range(len(chunks)))
        if self._options.fallback_temperature is None:
            return firsts
        bad = [i for i, first in enumerate(firsts) if self._options.needs_fallback(first)]
        looping = [i for i in bad if self._options.is_repetitive(firsts[i])]
        improbable = [i for i in bad if i not in looping]
        seconds = [
            *batch.decode(looping, longest_repeat=LONGEST_REPEAT),
            *batch.decode(improbable, temperature=self._options.fallback_temperature),
        ]
        again = dict(zip(looping + improbable, seconds, strict=True))
        return [
            self._options.better(first, replace(again[i], again=True)) if i in again else first
            for i, first in enumerate(firsts)
        ]


class _Batch:
    """A window of each of several chunks, and its encoding."""

    def __init__(
        self,
        model: LoadedModel,
        options: DecodingOptions,
        chunks: Sequence[ChunkState],
        prompts: Sequence[list[int]],
        encoded: Any,
    ) -> None:
        self._model, self._options = model, options
        self._chunks, self._prompts, self._encoded = chunks, prompts, encoded

    def decode(
        self, positions: Sequence[int], *, temperature: float = 0.0, longest_repeat: int | None = None
    ) -> list[DecodedWindow]:
        """The windows at these positions, in their order."""
        windows: dict[int, DecodedWindow] = {}

        def generate(group: Sequence[int], max_tokens: int | None) -> list[DecodedWindow]:
            """What comes behind what there is of the windows."""
            return self._model.generate(
                select_members(self._encoded, group, len(self._chunks)),
                [self._chunks[i].task for i in group],
                [self._prompts[i] for i in group],
                [self._chunks[i].given_tokens + (windows[i].tokens if i in windows else []) for i in group],
                beam_size=self._options.beam_size,
                temperature=temperature,
                max_tokens=max_tokens,
                longest_repeat=longest_repeat,
            )

        for group in self._group_by_lengths(positions):
            seconds = max(self._model.seconds_left(self._chunks[i]) for i in group)
            look, most = self._options.tokens_before_look(seconds), self._options.max_tokens(seconds)
            windows.update(zip(group, generate(group, look if most is None else min(look, most)), strict=True))
            long = [i for i in group if len(windows[i].tokens) == look != most]
            for i in long:
                windows[i] = self._looked_at(i, windows[i])
            unfinished = [i for i in long if not self._options.is_repetitive(windows[i])]
            left = None if most is None else most - look
            for i, rest in zip(unfinished, generate(unfinished, left) if unfinished else [], strict=True):
                windows[i] = self._model.joined(self._chunks[i].task, windows[i], rest)
        return [windows[i] for i in positions]

    def _looked_at(self, position: int, window: DecodedWindow) -> DecodedWindow:
        """Repetitive if its last tokens are: a loop that has just begun is little of the whole."""
        ratio = self._model.compression_ratio(self._chunks[position].task, window.tokens[-TAIL_TOKENS:])
        return replace(window, compression_ratio=max(ratio, window.compression_ratio))

    def _group_by_lengths(self, positions: Sequence[int]) -> list[list[int]]:
        """Positions grouped by the lengths of what their transcripts follow: a batch needs its tokens in line."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in positions:
            groups[len(self._prompts[i]), len(self._chunks[i].given_tokens)].append(i)
        return list(groups.values())
