"""The hypothesis of a decoded chunk: phrases of all its parts, main language, quality signals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.model import LoadedModel
from speech.text.words import Hypothesis, Phrase


def build_hypothesis(chunk: ChunkState, model: LoadedModel) -> Hypothesis:
    """Times count from the start of the chunk; phrases in another language than the main one name theirs."""
    language = _main_language(chunk)
    return Hypothesis(language, _phrases(chunk, language, model.frames_per_second), _signals(chunk, model))


def _signals(chunk: ChunkState, model: LoadedModel) -> dict[str, float]:
    """Quality signals over all windows; windows without text count only where none has text."""
    windows = [window for part in chunk.decoded_units for window in part.windows]
    with_text = [window for window in windows if window.tokens] or windows
    weights = [max(1, len(window.tokens)) for window in with_text]
    signals = {
        "avg_logprob": float(np.average([w.avg_logprob for w in with_text], weights=weights)),
        "no_speech_prob": float(min(w.no_speech_prob for w in with_text)),
        "compression_ratio": float(max(w.compression_ratio for w in with_text)),
        "temperature": float(max(w.temperature for w in with_text)),
    }
    probabilities = [
        part.language_probabilities.get(model.vocabulary_language(part.decoding_language), 0.0)
        for part in chunk.decoded_units
        if part.language_probabilities
    ]
    if probabilities:
        signals["language_probability"] = min(probabilities)
    return signals


def _main_language(chunk: ChunkState) -> str:
    """The language with the most tokens."""
    tokens: Counter[str] = Counter()
    for part in chunk.decoded_units:
        tokens[part.text_language] += sum(len(window.tokens) for window in part.windows)
    return tokens.most_common(1)[0][0]


def _phrases(chunk: ChunkState, main_language: str, frames_per_second: int) -> tuple[Phrase, ...]:
    return tuple(
        replace(
            phrase.shifted(((part.offset_frames or 0) - part.before_frames) / frames_per_second),
            language=part.text_language if part.text_language != main_language else None,
        )
        for part in chunk.decoded_units
        for phrase in part.phrases
    )
