"""A loaded Whisper model: features, encoder, tokenizers and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from speech.asr.whisper.decoding import ChunkState
from speech.engines import SAMPLE_RATE, EngineUnavailable, Utterance
from speech.text.words import Phrase


class LoadedModel:
    """faster-whisper's model with what decoding needs of it. Thread-safe: CTranslate2 queues concurrent calls."""

    def __init__(
        self, folder: Path, *, name: str, device: str, compute_type: str, threads: int, workers: int
    ) -> None:
        """Raises EngineUnavailable when the model or the device cannot be used."""
        try:
            self.whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=workers,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"Whisper {name} cannot load on {device}: {error}") from error
        self.network = self.whisper.model
        self._tokenizers: dict[str, Any] = {}
        self.suppressed_tokens = get_suppressed_tokens(self.tokenizer("en"), [-1])

    @property
    def multilingual(self) -> bool:
        return bool(self.network.is_multilingual)

    @property
    def frames_per_second(self) -> int:
        return int(self.whisper.frames_per_second)

    @property
    def window_frames(self) -> int:
        return int(self.whisper.feature_extractor.nb_max_frames)

    @property
    def max_length(self) -> int:
        """Most tokens of the decoder, prompt included."""
        return int(self.whisper.max_length)

    def begin(self, utterance: Utterance) -> ChunkState:
        """The features of an utterance, nothing decoded yet."""
        features = self.whisper.feature_extractor(utterance.samples)[..., :-1]
        frames = round(len(utterance.samples) / SAMPLE_RATE * self.frames_per_second)
        return ChunkState(
            features=features[:, : max(frames, 1)],
            language=utterance.language if self.multilingual else "en",
            expected=utterance.expected,
            hotwords=self._encode_text(", ".join(utterance.hotwords)),
            previous=utterance.history,
        )

    def encode(self, chunks: Sequence[ChunkState], frames: int | None = None) -> Any:
        """The encoder's output for the next window of each, padded as in training, or to ``frames`` if less."""
        length = min(frames or self.window_frames, self.window_frames)
        windows = [pad_or_trim(chunk.features[:, chunk.seek :], length) for chunk in chunks]
        return self.whisper.encode(np.stack(windows))

    def tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            self._tokenizers[language] = Tokenizer(
                self.whisper.hf_tokenizer,
                self.multilingual,
                task="transcribe",
                language=self.vocabulary_language(language),
            )
        return self._tokenizers[language]

    def vocabulary_language(self, language: str) -> str:
        """The vocabularies before large-v3 know Cantonese as Chinese."""
        known = self.whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is not None
        return "zh" if language == "yue" and not known else language

    def previous_tokens(self, chunk: ChunkState) -> list[int]:
        """Tokens of the phrases before a chunk that are in its own language."""
        phrases = [phrase for phrase in chunk.previous if phrase.language in (None, chunk.language)]
        return [token for phrase in phrases for token in self._timed_tokens(phrase)]

    def prompt(self, chunk: ChunkState) -> list[int]:
        """Hotwords and the text before; half of the decoder's length stays free for the text to come."""
        room = self.max_length // 2 - 1
        hotwords = chunk.hotwords[-room:]
        length = min(len(chunk.prompt_tokens), room - len(hotwords))
        return hotwords + chunk.prompt_tokens[len(chunk.prompt_tokens) - length :]

    def _encode_text(self, text: str) -> list[int]:
        return list(self.tokenizer("en").encode(" " + text)) if text else []

    def _timed_tokens(self, phrase: Phrase) -> list[int]:
        """A phrase between timestamps, as the model writes it: without them in its prompt it stops writing any."""
        zero, precision = self.tokenizer("en").timestamp_begin, self.whisper.time_precision
        start, end = (zero + round(min(max(t, 0.0), 30.0) / precision) for t in (phrase.start, phrase.end))
        return [start, *self._encode_text(phrase.text), end]
