"""Temperature fallback over batches: suspicious windows are decoded again, together, at the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from faster_whisper.transcribe import get_compression_ratio

from speech.asr.whisper.arrays import select
from speech.asr.whisper.decoding import ChunkState, DecodedWindow, Decoding
from speech.asr.whisper.model import LoadedModel


class Decoder:
    """Turns encoded windows into tokens."""

    def __init__(self, model: LoadedModel, decoding: Decoding) -> None:
        self._model, self._decoding = model, decoding

    def decode(self, chunks: Sequence[ChunkState], encoded: Any) -> list[DecodedWindow]:
        """The best result for the window of each chunk, in order."""
        limits = self._decoding
        prompts = [self._model.prompt(chunk) for chunk in chunks]
        attempts: list[list[DecodedWindow]] = [[] for _ in chunks]
        pending = list(range(len(chunks)))
        for temperature in limits.temperatures:
            for positions in _by_length(pending, prompts):
                batch = [chunks[i] for i in positions]
                group = select(encoded, positions, len(chunks))
                results = self.generate(batch, [prompts[i] for i in positions], group, temperature)
                for position, result in zip(positions, results, strict=True):
                    attempts[position].append(result)
            pending = [i for i in pending if attempts[i][-1].is_suspicious(limits)]
            if not pending:
                break
        return [self._best(made) if made[-1].is_suspicious(limits) else made[-1] for made in attempts]

    def generate(
        self,
        chunks: Sequence[ChunkState],
        prompts: Sequence[list[int]],
        encoded: Any,
        temperature: float,
        max_tokens: int | None = None,
    ) -> list[DecodedWindow]:
        """One attempt at the window of each chunk; prompts must be of one length."""
        whisper = self._model.whisper
        search = (
            {"beam_size": 1, "sampling_topk": 0} if temperature > 0 else {"beam_size": self._decoding.beam_size}
        )
        results = self._model.network.generate(
            encoded,
            [
                whisper.get_prompt(self._model.tokenizer(chunk.language_or_default), prompt)
                for chunk, prompt in zip(chunks, prompts, strict=True)
            ],
            sampling_temperature=temperature,
            # CTranslate2 takes half of it for the prompt
            max_length=2 * max_tokens if max_tokens else self._model.max_length,
            max_initial_timestamp_index=round(1.0 / whisper.time_precision),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._model.suppressed_tokens,
            **search,
        )
        return [self._window(chunk, result, temperature) for chunk, result in zip(chunks, results, strict=True)]

    def _window(self, chunk: ChunkState, result: Any, temperature: float) -> DecodedWindow:
        tokens = list(result.sequences_ids[0])
        text = self._model.tokenizer(chunk.language_or_default).decode(tokens).strip()
        return DecodedWindow(
            tokens=tokens,
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            no_speech_prob=result.no_speech_prob,
            compression_ratio=get_compression_ratio(text) if text else 0.0,
            temperature=temperature,
        )

    def _best(self, attempts: list[DecodedWindow]) -> DecodedWindow:
        """All attempts are suspicious: the likeliest among those that do not repeat themselves."""
        sound = [attempt for attempt in attempts if not attempt.is_repetitive(self._decoding)]
        return max(sound or attempts, key=lambda attempt: attempt.avg_logprob)


def _by_length(positions: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups with prompts of one length: CTranslate2 wants the start token of a batch at one position."""
    groups: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        groups[len(prompts[position])].append(position)
    return list(groups.values())
