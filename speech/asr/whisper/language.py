"""Language detection: selects the language of each chunk, and divides chunks where the language changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import DecodedWindow, DecodingOptions, Task
from speech.asr.whisper.encoder_output import select_members, to_numpy
from speech.asr.whisper.language_spans import LanguageClassifier
from speech.asr.whisper.model import LoadedModel

DECISIVE_PROBABILITY_RATIO = 50.0
"""A language this many times as probable as the expected one is selected without comparing transcripts. For
accented English the ratio of Chinese was 20 at most; languages that were really spoken had 140 or more."""

MIN_LOGPROB_GAIN = 0.1
"""By how much the transcript in another language than the expected one must be more probable (average log
probability of a token). Chinese speech gained 1.0 and more; accented English lost 0.1 to 0.8 elsewhere."""

COMPARISON_TOKENS = 32
"""Tokens decoded in each language to compare the two transcripts."""


class LanguageDetection:
    """Detects languages from encoder output."""

    def __init__(self, model: LoadedModel, options: DecodingOptions) -> None:
        self._model, self._options = model, options
        self._classifier = LanguageClassifier(model.decoder, model.frames_per_second)

    def detect(self, chunks: Sequence[ChunkState], encoded: Any) -> None:
        """Select the language of those chunks that have none, and divide whole chunks where it changes."""
        undetected = [i for i, chunk in enumerate(chunks) if chunk.language is None]
        if not undetected:
            return
        encoded = select_members(encoded, undetected, len(chunks))
        chunks = [chunks[i] for i in undetected]
        for chunk, probabilities in zip(chunks, self._classifier.probabilities(encoded), strict=True):
            self._select(chunk, probabilities)
        if ambiguous := [i for i, chunk in enumerate(chunks) if chunk.alternative_language]:
            self._compare_transcripts(
                [chunks[i] for i in ambiguous], select_members(encoded, ambiguous, len(chunks))
            )
        if any(chunk.offset_frames is None for chunk in chunks):
            for chunk, positions in zip(chunks, to_numpy(encoded), strict=True):
                self._divide(chunk, encoded, positions)

    def _select(self, chunk: ChunkState, probabilities: Mapping[str, float]) -> None:
        """Select a language by probability alone; note the alternative where that is not decisive."""
        best, second = sorted(probabilities, key=lambda language: -probabilities[language])[:2]
        expected = chunk.expected_language or best
        known = self._model.vocabulary_language(expected)
        chunk.language, chunk.language_probabilities = expected, probabilities
        if best != known:
            if probabilities[best] > DECISIVE_PROBABILITY_RATIO * probabilities.get(known, 0.0):
                chunk.language = best
            else:
                chunk.alternative_language = best
        elif (
            chunk.expected_language is None
            and probabilities[best] <= DECISIVE_PROBABILITY_RATIO * probabilities[second]
        ):
            chunk.alternative_language = second

    def _compare_transcripts(self, chunks: Sequence[ChunkState], encoded: Any) -> None:
        """Switch to the alternative where its transcript is more probable: an accent fools detection only."""
        selected = self._decode_beginning([chunk.decoding_language for chunk in chunks], encoded)
        alternative = self._decode_beginning([chunk.alternative_language or "en" for chunk in chunks], encoded)
        for chunk, ours, theirs in zip(chunks, selected, alternative, strict=True):
            min_gain = MIN_LOGPROB_GAIN if chunk.expected_language else 0.0
            if self._plausibility(theirs) > self._plausibility(ours) + min_gain:
                chunk.language = chunk.alternative_language

    def _decode_beginning(self, languages: Sequence[str], encoded: Any) -> list[DecodedWindow]:
        nothing: list[list[int]] = [[] for _ in languages]
        return self._model.generate(
            encoded,
            [Task(language) for language in languages],
            nothing,
            nothing,
            beam_size=1,
            temperature=0.0,
            max_tokens=COMPARISON_TOKENS,
        )

    def _plausibility(self, window: DecodedWindow) -> float:
        """Average log probability; minus infinity for text that is empty or repetitive."""
        empty = window.compression_ratio == 0
        return -np.inf if empty or self._options.is_repetitive(window) else window.avg_logprob

    def _divide(self, chunk: ChunkState, encoded: Any, positions: NDArray[Any]) -> None:
        """Give spans in another language to parts of their own: decoded in the chunk's, their words are lost."""
        spans = self._classifier.find_spans(
            encoded, positions, chunk.features, self._model.vocabulary_language(chunk.decoding_language)
        )
        if not any(span.is_other_language for span in spans):
            return
        parts = [
            ChunkState(
                features=chunk.features[:, span.start : span.end],
                language=None if span.is_other_language else chunk.decoding_language,
                expected_language=chunk.decoding_language,
                hotword_tokens=chunk.hotword_tokens,
                translate=chunk.translate,
                offset_frames=span.start,
            )
            for span in spans
        ]
        undetected = [part for part in parts if part.language is None]
        # detection needs no full window: the longest part and a second of silence are enough
        frames = max(part.frames for part in undetected) + self._model.frames_per_second
        self.detect(undetected, self._model.encode(undetected, frames))
        if any(part.decoding_language != chunk.decoding_language for part in undetected):
            chunk.parts = parts
