"""Whisper's cross-attention aligns any text with the audio, whoever heard it."""

from __future__ import annotations

import math
from pathlib import Path

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import REFINE, Task
from speech.asr.whisper.device import resolve
from speech.asr.whisper.model import LoadedModel
from speech.engines import SAMPLE_RATE, Samples
from speech.models.streams import Streams
from speech.text.languages import LANGUAGES
from speech.text.words import Word


class WhisperAligner:
    """A Whisper model that decodes nothing. Thread-safe."""

    def __init__(
        self, folder: Path, *, name: str, device: str = "auto", compute_type: str = "auto", threads: int = 1
    ) -> None:
        """Raises EngineUnavailable."""
        device, compute_type = resolve(device, compute_type)
        streams = Streams(threads) if device == "cpu" else None
        self._model = LoadedModel(
            folder,
            name=name,
            device=device,
            compute_type=compute_type,
            threads=streams.threads if streams else threads,
            workers=streams.count if streams else 1,
        )
        self.name = f"whisper {name}"

    @property
    def languages(self) -> frozenset[str]:
        return LANGUAGES if self._model.multilingual else frozenset({"en"})

    def align(self, samples: Samples, text: str, language: str) -> list[Word]:
        """Raises ValueError for a text that is longer than the decoder."""
        tokenizer = self._model.tokenizer(Task(language))
        tokens = list(tokenizer.encode(f" {text.strip()}"))
        if len(tokens) >= self._model.max_tokens - len(tokenizer.sot_sequence) - 1:
            raise ValueError(f"{len(tokens)} tokens are more than Whisper aligns")
        features = self._model.features(samples)
        chunk = ChunkState(features, language, None, [], translate=False)
        fps = self._model.frames_per_second
        padded = math.ceil(chunk.frames / fps + REFINE.padding_seconds) * fps
        segments = [{"seek": 0, "start": 0.0, "end": len(samples) / SAMPLE_RATE, "tokens": tokens}]
        self._model.add_word_timestamps([segments], tokenizer, self._model.encode([chunk], padded), [chunk.frames])
        return [
            Word(
                timing["word"].strip(), float(timing["start"]), float(timing["end"]), float(timing["probability"])
            )
            for timing in segments[0]["words"]  # type: ignore[attr-defined]  # added by the call
            if timing["word"].strip()
        ]
