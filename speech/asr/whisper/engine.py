"""Whisper over many chunks of any jobs at once, as accurate as one window at a time.

On a CPU each chunk is a stream of its own, on a GPU they are batched. Plain batching decodes each window once and
keeps the result. Whisper often stops early, though: it is meant to be asked again from its last timestamp on. So
every chunk keeps a seek position, and each round batches the windows that still have audio left.
(The sequential algorithm is that of "Robust Speech Recognition via Large-Scale Weak Supervision", section 4.5.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from speech.asr.whisper.arrays import select
from speech.asr.whisper.decoding import REFINE, ChunkState, Decoding
from speech.asr.whisper.fallback import Decoder
from speech.asr.whisper.language import LanguageDetection
from speech.asr.whisper.model import LoadedModel
from speech.asr.whisper.word_times import place
from speech.engines import EngineInfo, Utterance
from speech.models.streams import Streams
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis


class WhisperEngine:
    """A loaded Whisper model. Thread-safe: CTranslate2 queues concurrent calls."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        decoding: Decoding = REFINE,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 1,
        instead_of: str | None = None,
    ) -> None:
        """Raises EngineUnavailable when the model or the device cannot be used."""
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        self._streams = Streams(threads) if device == "cpu" else None
        self._model = LoadedModel(
            folder,
            name=name,
            device=device,
            compute_type=compute_type,
            threads=self._streams.threads if self._streams else threads,
            workers=self._streams.count if self._streams else 1,
        )
        self._decoding = decoding
        self._decoder = Decoder(self._model, decoding)
        self._language = LanguageDetection(self._model, self._decoder, decoding)
        self.info = EngineInfo("whisper", name, device, compute_type, instead_of)

    @property
    def multilingual(self) -> bool:
        return self._model.multilingual

    @property
    def languages(self) -> frozenset[str]:
        return LANGUAGES if self.multilingual else frozenset({"en"})

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance of at most 30 s, in order."""
        if self._streams:
            return self._streams.map(lambda utterance: self.transcribe_batch([utterance])[0], utterances)
        return self.transcribe_batch(utterances)

    def transcribe_batch(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """The same in one stream, as a GPU wants it."""
        chunks = [self._model.begin(utterance) for utterance in utterances]
        rest = round(self._decoding.min_rest_seconds * self._model.frames_per_second)
        while pending := [
            part for chunk in chunks for part in chunk.parts if part.seek == 0 or part.frames - part.seek > rest
        ]:
            for start in range(0, len(pending), self._decoding.batch_size):
                self._decode_window(pending[start : start + self._decoding.batch_size])
        return [self._hypothesis(chunk) for chunk in chunks]

    def detect_language(self, utterance: Utterance) -> str:
        """The language that most of the utterance is in, or the expected one if no other is clear."""
        chunk = self._model.begin(utterance)
        self._language.detect([chunk], self._model.encode([chunk]))
        frames: Counter[str] = Counter()
        for part in chunk.parts:
            frames[part.language_or_default] += part.frames
        return frames.most_common(1)[0][0]

    def _decode_window(self, chunks: Sequence[ChunkState]) -> None:
        """Decode one window of each chunk, and move its seek on."""
        encoded = self._model.encode(chunks)
        self._language.detect(chunks, encoded)
        # those that were just divided are decoded piece by piece in the next round
        if whole := [i for i, chunk in enumerate(chunks) if not chunk.pieces]:
            self._transcribe_window([chunks[i] for i in whole], select(encoded, whole, len(chunks)))

    def _transcribe_window(self, chunks: Sequence[ChunkState], encoded: Any) -> None:
        for chunk in chunks:
            if not chunk.windows:
                chunk.prompt_tokens = self._model.previous_tokens(chunk)
        decoded = self._decoder.decode(chunks, encoded)
        by_language: dict[str, list[int]] = defaultdict(list)
        for position, (chunk, result) in enumerate(zip(chunks, decoded, strict=True)):
            chunk.windows.append(result)
            trusted = result.temperature <= self._decoding.max_prompt_temperature
            chunk.prompt_tokens = chunk.prompt_tokens + result.tokens if trusted else []
            if result.is_silent(self._decoding):
                chunk.seek = chunk.frames
            else:
                by_language[chunk.language_or_default].append(position)
        for language, positions in by_language.items():
            place(
                self._model,
                [chunks[i] for i in positions],
                [decoded[i] for i in positions],
                select(encoded, positions, len(chunks)),
                language=language,
                word_timestamps=self._decoding.word_timestamps,
            )

    def _hypothesis(self, chunk: ChunkState) -> Hypothesis:
        parts = chunk.parts
        windows = [window for part in parts for window in part.windows]
        spoken = [window for window in windows if window.tokens] or windows
        weights = [max(1, len(window.tokens)) for window in spoken]
        signals = {
            "avg_logprob": float(np.average([w.avg_logprob for w in spoken], weights=weights)),
            "no_speech_prob": float(min(w.no_speech_prob for w in spoken)),
            "compression_ratio": float(max(w.compression_ratio for w in spoken)),
            "temperature": float(max(w.temperature for w in spoken)),
        }
        probabilities = [
            part.language_probabilities.get(self._model.vocabulary_language(part.language_or_default), 0.0)
            for part in parts
            if part.language_probabilities
        ]
        if probabilities:
            signals["language_probability"] = min(probabilities)
        tokens: Counter[str] = Counter()
        for part in parts:
            tokens[part.language_or_default] += sum(len(window.tokens) for window in part.windows)
        main = tokens.most_common(1)[0][0]
        phrases = [
            replace(
                phrase.shifted((part.offset or 0) / self._model.frames_per_second),
                language=part.language_or_default if part.language_or_default != main else None,
            )
            for part in parts
            for phrase in part.phrases
        ]
        return Hypothesis(main, tuple(phrases), signals)
