"""Fallback: a window with bad quality signals is decoded once more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import LONGEST_REPEAT, DecodedWindow, DecodingOptions
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

        def attempt(
            positions: Sequence[int], temperature: float = 0.0, longest_repeat: int | None = None
        ) -> dict[int, DecodedWindow]:
            windows: dict[int, DecodedWindow] = {}
            for group in _group_by_lengths(positions, prompts, [chunk.given_tokens for chunk in chunks]):
                seconds = max(self._model.seconds_left(chunks[i]) for i in group)
                generated = self._model.generate(
                    select_members(encoded, group, len(chunks)),
                    [chunks[i].task for i in group],
                    [prompts[i] for i in group],
                    [chunks[i].given_tokens for i in group],
                    beam_size=self._options.beam_size,
                    temperature=temperature,
                    max_tokens=self._options.max_tokens(seconds),
                    longest_repeat=longest_repeat,
                )
                windows.update(zip(group, generated, strict=True))
            return windows

        windows = attempt(range(len(chunks)))
        if self._options.fallback_temperature is not None:
            bad = [i for i, window in windows.items() if self._options.needs_fallback(window)]
            looping = [i for i in bad if self._options.is_repetitive(windows[i])]
            improbable = [i for i in bad if i not in looping]
            again = attempt(looping, longest_repeat=LONGEST_REPEAT)
            again |= attempt(improbable, temperature=self._options.fallback_temperature)
            for i, second in again.items():
                windows[i] = replace(self._options.better(windows[i], second), again=True)
        return [windows[i] for i in range(len(chunks))]


def _group_by_lengths(
    positions: Sequence[int], prompts: Sequence[Sequence[int]], given: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Positions grouped by the lengths of what their transcripts follow: a batch needs its tokens in line."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position in positions:
        groups[len(prompts[position]), len(given[position])].append(position)
    return list(groups.values())
