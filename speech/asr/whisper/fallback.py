"""Temperature fallback: windows with bad quality signals are decoded again at a higher temperature."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import DecodedWindow, DecodingOptions
from speech.asr.whisper.encoder_output import select_members
from speech.asr.whisper.model import LoadedModel


class TemperatureFallback:
    """Decodes batches of windows."""

    def __init__(self, model: LoadedModel, options: DecodingOptions) -> None:
        self._model, self._options = model, options

    def decode(
        self, chunks: Sequence[ChunkState], prompts: Sequence[list[int]], encoded: Any
    ) -> list[DecodedWindow]:
        """Decode one window of each chunk; repeat those that need it at the next temperature, and so on."""
        attempts: list[list[DecodedWindow]] = [[] for _ in chunks]
        pending = list(range(len(chunks)))
        for temperature in self._options.temperatures:
            for positions in _group_by_lengths(pending, prompts, [chunk.given_tokens for chunk in chunks]):
                seconds = max(self._model.seconds_left(chunks[i]) for i in positions)
                windows = self._model.generate(
                    select_members(encoded, positions, len(chunks)),
                    [chunks[i].task for i in positions],
                    [prompts[i] for i in positions],
                    [chunks[i].given_tokens for i in positions],
                    beam_size=self._options.beam_size,
                    temperature=temperature,
                    max_tokens=self._options.max_tokens(seconds),
                )
                for position, window in zip(positions, windows, strict=True):
                    attempts[position].append(window)
            pending = [i for i in pending if self._options.needs_fallback(attempts[i][-1])]
            if not pending:
                break
        return [self._options.best_attempt(tried) for tried in attempts]


def _group_by_lengths(
    positions: Sequence[int], prompts: Sequence[Sequence[int]], given: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Positions grouped by the lengths of what their transcripts follow: a batch needs its tokens in line."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position in positions:
        groups[len(prompts[position]), len(given[position])].append(position)
    return list(groups.values())
