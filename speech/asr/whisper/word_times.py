"""Placing decoded tokens in time: phrases between timestamps, words by cross-attention or by their length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from speech.asr.whisper.decoding import ChunkState, DecodedWindow
from speech.asr.whisper.model import LoadedModel
from speech.text.words import Phrase, Word

PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"

WINDOW_SPACING = 1_000_000
"""Frames between the windows of one alignment call, which wants times that rise through the batch."""


def place(
    model: LoadedModel,
    chunks: Sequence[ChunkState],
    decoded: Sequence[DecodedWindow],
    encoded: Any,
    *,
    language: str,
    word_timestamps: bool,
) -> None:
    """Append the phrases of each window to its chunk, and seek to the last timestamp that can be trusted."""
    whisper, tokenizer, fps = model.whisper, model.tokenizer(language), model.frames_per_second
    parts, sizes, single_endings = [], [], []
    for position, (chunk, result) in enumerate(zip(chunks, decoded, strict=True)):
        size = min(model.window_frames, chunk.frames - chunk.seek)
        base = position * WINDOW_SPACING + chunk.seek
        segments, seek, single = whisper._split_segments_by_timestamps(
            tokenizer, result.tokens, base / fps, size, size / fps, base
        )
        for segment in segments:
            segment["seek"] = base
        parts.append(segments)
        sizes.append(size)
        single_endings.append(single)
        moved = seek - position * WINDOW_SPACING
        chunk.seek = moved if moved > chunk.seek else chunk.frames
    if word_timestamps:
        whisper.add_word_timestamps(parts, tokenizer, encoded, sizes, PREPENDED, APPENDED, 0.0)
    for position, (chunk, result, segments) in enumerate(zip(chunks, decoded, parts, strict=True)):
        offset = position * WINDOW_SPACING / fps
        for segment in segments:
            phrase = _phrase(tokenizer, segment, offset, chunk.frames / fps, result)
            if phrase is not None:
                chunk.phrases.append(phrase)
        last = chunk.phrases[-1].end * fps if chunk.phrases else 0
        if word_timestamps and not single_endings[position] and last > chunk.frames - sizes[position]:
            # the last word's end is the better place to go on from
            chunk.seek = round(last)


def _phrase(
    tokenizer: Any, segment: dict[str, Any], offset: float, duration: float, result: DecodedWindow
) -> Phrase | None:
    """A phrase within its chunk, or None when nothing was said."""
    text = tokenizer.decode([t for t in segment["tokens"] if t < tokenizer.eot]).strip()
    start = min(max(float(segment["start"]) - offset, 0.0), duration)
    end = min(max(float(segment["end"]) - offset, start), duration)
    if not text or end <= start:
        return None
    confidence = float(np.clip(np.exp(result.avg_logprob), 0, 1))
    if "words" in segment:
        words = tuple(_words(segment["words"], offset, duration))
    else:
        words = tuple(spread(text, start, end, confidence))
    if words and "words" in segment:
        confidence = float(np.mean([word.confidence for word in words]))
    return Phrase(start, end, text, words, confidence)


def _words(timings: Iterable[dict[str, Any]], offset: float, duration: float) -> Iterable[Word]:
    """Words in order, none before the one ahead of it, none outside the chunk."""
    earliest = 0.0
    for timing in timings:
        text = timing["word"].strip()
        if not text:
            continue
        start = min(max(float(timing["start"]) - offset, earliest), duration)
        end = min(max(float(timing["end"]) - offset, start), duration)
        earliest = start
        yield Word(text, start, end, float(timing["probability"]), glued=not timing["word"].startswith(" "))


def spread(text: str, start: float, end: float, confidence: float) -> Iterable[Word]:
    """The words of a phrase, its time shared out by their lengths."""
    pieces = text.split()
    total = sum(len(piece) + 1 for piece in pieces)
    said = 0
    for piece in pieces:
        begin = start + (end - start) * said / total
        said += len(piece) + 1
        yield Word(piece, begin, start + (end - start) * said / total, confidence)
