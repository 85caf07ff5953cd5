"""Language detection in chunks that name none, and dividing chunks where the language changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.asr.whisper.arrays import on_cpu, select
from speech.asr.whisper.decoding import ChunkState, DecodedWindow, Decoding
from speech.asr.whisper.fallback import Decoder
from speech.asr.whisper.language_spans import SpanDetector
from speech.asr.whisper.model import LoadedModel

SURE_RATIO = 50.0
"""A language so many times as probable as the expected one is taken at once. Chinese was 20 times as probable as
English in an accent, at most; languages that were really spoken were 140 times or more."""

LOGPROB_MARGIN = 0.1
"""By so much the text in another language has to be likelier, in log probability a token. Chinese was so by 1.0
and more, English in an accent less likely as anything else by 0.1 to 0.8."""

PROBE_TOKENS = 32
"""Tokens that show which of two languages fits better."""


class LanguageDetection:
    """Decides the language of chunks, or of their pieces."""

    def __init__(self, model: LoadedModel, decoder: Decoder, decoding: Decoding) -> None:
        self._model, self._decoder, self._decoding = model, decoder, decoding
        self._spans = SpanDetector(model.network, model.frames_per_second)

    def detect(self, chunks: Sequence[ChunkState], encoded: Any) -> None:
        """Set the language of those that have none; divide those in which it changes."""
        unknown = [i for i, chunk in enumerate(chunks) if chunk.language is None]
        if not unknown:
            return
        encoded = select(encoded, unknown, len(chunks))
        chunks = [chunks[i] for i in unknown]
        for chunk, probabilities in zip(chunks, self._spans.languages(encoded), strict=True):
            self._choose(chunk, probabilities)
        if doubtful := [i for i, chunk in enumerate(chunks) if chunk.alternative]:
            self._compare_alternatives([chunks[i] for i in doubtful], select(encoded, doubtful, len(chunks)))
        if any(chunk.offset is None for chunk in chunks):
            for chunk, positions in zip(chunks, on_cpu(encoded), strict=True):
                self._divide(chunk, encoded, positions)

    def _choose(self, chunk: ChunkState, probabilities: Mapping[str, float]) -> None:
        best, second = sorted(probabilities, key=lambda language: -probabilities[language])[:2]
        expected = chunk.expected or best
        known = self._model.vocabulary_language(expected)
        chunk.language, chunk.language_probabilities = expected, probabilities
        if best != known:
            if probabilities[best] > SURE_RATIO * probabilities.get(known, 0.0):
                chunk.language = best
            else:
                chunk.alternative = best
        elif chunk.expected is None and probabilities[best] <= SURE_RATIO * probabilities[second]:
            chunk.alternative = second

    def _compare_alternatives(self, chunks: Sequence[ChunkState], encoded: Any) -> None:
        """An accent sounds like another language; decoded as one, though, it is less likely text."""
        no_prompts: list[list[int]] = [[] for _ in chunks]
        others = [replace(chunk, language=chunk.alternative) for chunk in chunks]
        first, second = (
            self._decoder.generate(asked, no_prompts, encoded, 0.0, max_tokens=PROBE_TOKENS)
            for asked in (chunks, others)
        )
        for chunk, expected, alternative in zip(chunks, first, second, strict=True):
            margin = LOGPROB_MARGIN if chunk.expected else 0.0
            if self._plausibility(alternative) > self._plausibility(expected) + margin:
                chunk.language = chunk.alternative

    def _plausibility(self, window: DecodedWindow) -> float:
        """Its log probability; empty and repetitive text is not plausible at all."""
        empty = window.compression_ratio == 0
        return -np.inf if empty or window.is_repetitive(self._decoding) else window.avg_logprob

    def _divide(self, chunk: ChunkState, encoded: Any, positions: NDArray[Any]) -> None:
        """Decode apart what sounds like another language: decoded in the chunk's, its words would be lost."""
        expected = self._model.vocabulary_language(chunk.language_or_default)
        spans = self._spans.spans(encoded, positions, chunk.features, expected)
        if not any(span.is_other for span in spans):
            return
        pieces = [
            ChunkState(
                features=chunk.features[:, span.first : span.end],
                language=None if span.is_other else chunk.language_or_default,
                expected=chunk.language_or_default,
                hotwords=chunk.hotwords,
                previous=chunk.previous if span.first == 0 else (),
                offset=span.first,
            )
            for span in spans
        ]
        others = [piece for piece in pieces if piece.language is None]
        # as much of a window as they fill, and a second of silence, is enough to tell languages apart
        longest = max(piece.frames for piece in others)
        self.detect(others, self._model.encode(others, longest + self._model.frames_per_second))
        if any(piece.language_or_default != chunk.language_or_default for piece in others):
            chunk.pieces = pieces
