"""Placing decoded tokens in time, as phrases and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import DecodedWindow, Task
from speech.asr.whisper.model import LoadedModel
from speech.text.words import Phrase, Word

BATCH_OFFSET_FRAMES = 1_000_000
"""Between the windows of one alignment call, which needs times that increase through the batch."""


class WordTimes:
    """Adds the phrases of decoded windows to their chunks, and moves each chunk's seek position."""

    def __init__(self, model: LoadedModel, *, word_timestamps: bool) -> None:
        """``word_timestamps``: align words by cross-attention, instead of sharing a phrase's time among them."""
        self._model, self._word_timestamps = model, word_timestamps

    def place(
        self, task: Task, chunks: Sequence[ChunkState], windows: Sequence[DecodedWindow], encoded: Any
    ) -> None:
        """Turn the tokens of one task's windows into phrases; seek to the last reliable timestamp."""
        fps, tokenizer = self._model.frames_per_second, self._model.tokenizer(task)
        batch, sizes, single_endings = [], [], []
        for member, (chunk, window) in enumerate(zip(chunks, windows, strict=True)):
            size = min(self._model.window_frames, chunk.frames - chunk.seek)
            segments, seek, single_ending = self._model.split_at_timestamps(
                tokenizer, window.tokens, member * BATCH_OFFSET_FRAMES + chunk.seek, size
            )
            batch.append(segments)
            sizes.append(size)
            single_endings.append(single_ending)
            next_seek = seek - member * BATCH_OFFSET_FRAMES
            chunk.seek = next_seek if next_seek > chunk.seek else chunk.frames
        if self._word_timestamps:
            self._model.add_word_timestamps(batch, tokenizer, encoded, sizes)
        for member, (chunk, window, segments) in enumerate(zip(chunks, windows, batch, strict=True)):
            offset = member * BATCH_OFFSET_FRAMES / fps
            for segment in segments:
                phrase = _phrase(tokenizer, segment, offset, chunk.before_frames / fps, chunk.frames / fps, window)
                if phrase is not None:
                    chunk.phrases.append(phrase)
            last = chunk.phrases[-1].end * fps if chunk.phrases else 0
            if self._word_timestamps and not single_endings[member] and last > chunk.frames - sizes[member]:
                # the end of the last word is the better position to continue from
                chunk.seek = round(last)


def _phrase(
    tokenizer: Any, segment: dict[str, Any], offset: float, begin: float, duration: float, window: DecodedWindow
) -> Phrase | None:
    """A phrase within its chunk, whose speech begins there, or None for a segment without text or duration."""
    text = tokenizer.decode([t for t in segment["tokens"] if t < tokenizer.eot]).strip()
    start = min(max(float(segment["start"]) - offset, begin), duration)
    end = min(max(float(segment["end"]) - offset, start), duration)
    if not text or end <= start:
        return None
    confidence = float(np.clip(np.exp(window.avg_logprob), 0, 1))
    if "words" in segment:
        words = tuple(_aligned_words(segment["words"], offset, duration))
    else:
        words = tuple(_spread_words(text, start, end, confidence))
    if words and "words" in segment:
        confidence = float(np.mean([word.confidence for word in words]))
    return Phrase(start, end, text, words, confidence)


def _aligned_words(timings: Iterable[dict[str, Any]], offset: float, duration: float) -> Iterable[Word]:
    """Words in order of their start, none outside the chunk."""
    earliest = 0.0
    for timing in timings:
        text = timing["word"].strip()
        if not text:
            continue
        start = min(max(float(timing["start"]) - offset, earliest), duration)
        end = min(max(float(timing["end"]) - offset, start), duration)
        earliest = start
        yield Word(text, start, end, float(timing["probability"]), glued=not timing["word"].startswith(" "))


def _spread_words(text: str, start: float, end: float, confidence: float) -> Iterable[Word]:
    """The words of a phrase, its time shared in proportion to their lengths."""
    words = text.split()
    total = sum(len(word) + 1 for word in words)
    characters = 0
    for word in words:
        word_start = start + (end - start) * characters / total
        characters += len(word) + 1
        yield Word(word, word_start, start + (end - start) * characters / total, confidence)
