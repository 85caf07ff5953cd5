"""The loaded faster-whisper model: tokenizers, feature extraction, encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from numpy.typing import NDArray

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import DecodedWindow, Task
from speech.asr.whisper.encoder import Encoder, is_small
from speech.asr.whisper.encoder_output import join
from speech.engines import SAMPLE_RATE, EngineUnavailable, Samples

PREPENDED_PUNCTUATION = "\"'“¿([{-"
APPENDED_PUNCTUATION = "\"'.。,，!！?？:：”)]}、"


class LoadedModel:
    """Thread-safe: CTranslate2 queues concurrent calls."""

    def __init__(
        self, folder: Path, *, name: str, device: str, compute_type: str, threads: int, workers: int
    ) -> None:
        """``threads`` for each of ``workers`` concurrent computations on a CPU. Raises EngineUnavailable."""
        try:
            self._whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=workers,
                local_files_only=True,
            )
            on_cpu = device == "cpu" and self.decoder.compute_type.startswith("int8") and is_small(folder)
            # one pool for all who encode: each has its own thread, and its share of the rest
            self._encoder = Encoder(folder, threads=workers * (threads - 1) + 1) if on_cpu else None
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"Whisper {name} cannot load on {device}: {error}") from error
        self._tokenizers: dict[Task, Any] = {}
        self._suppressed_tokens = get_suppressed_tokens(self.tokenizer(Task("en")), [-1])

    @property
    def decoder(self) -> ctranslate2.models.Whisper:
        return self._whisper.model

    @property
    def multilingual(self) -> bool:
        return bool(self.decoder.is_multilingual)

    @property
    def frames_per_second(self) -> int:
        return int(self._whisper.frames_per_second)

    @property
    def window_frames(self) -> int:
        """Frames of a full window of 30 s."""
        return int(self._whisper.feature_extractor.nb_max_frames)

    @property
    def max_tokens(self) -> int:
        """The decoder's limit on prompt and output together."""
        return int(self._whisper.max_length)

    @property
    def timestamp_seconds(self) -> float:
        """From one timestamp token to the next."""
        return float(self._whisper.time_precision)

    def tokenizer(self, task: Task) -> Any:
        if task not in self._tokenizers:
            self._tokenizers[task] = Tokenizer(
                self._whisper.hf_tokenizer,
                self.multilingual,
                task="translate" if task.translate else "transcribe",
                language=self.vocabulary_language(task.language),
            )
        return self._tokenizers[task]

    def vocabulary_language(self, language: str) -> str:
        """The code that the vocabulary has for a language: before large-v3, Cantonese is Chinese."""
        known = self._whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is not None
        return "zh" if language == "yue" and not known else language

    def features(self, samples: Samples) -> NDArray[np.float32]:
        """Log-mel features of the whole utterance, shape (bands, frames)."""
        features: NDArray[np.float32] = self._whisper.feature_extractor(samples)[..., :-1]
        frames = round(len(samples) / SAMPLE_RATE * self.frames_per_second)
        return features[:, : max(frames, 1)]

    def seconds_left(self, chunk: ChunkState) -> float:
        """Of the chunk's next window, that are not transcribed."""
        frames = min(chunk.frames - chunk.seek, self.window_frames) - chunk.given_frames
        return frames / self.frames_per_second

    def encode(self, chunks: Sequence[ChunkState], frames: int | None = None) -> Any:
        """The next window of each chunk as one batch: a full window, or ``frames`` if that is less."""
        length = min(frames or self.window_frames, self.window_frames)
        windows = [pad_or_trim(chunk.features[:, chunk.seek :], length) for chunk in chunks]
        if self._encoder:
            return ctranslate2.StorageView.from_array(np.concatenate([*map(self._encoder.encode, windows)]))
        if self.decoder.device == "cpu":
            # one by one: what a batch of them computes with fits no cache, and is hundreds of megabytes
            return join([self._whisper.encode(window[None]) for window in windows])
        return self._whisper.encode(np.stack(windows))

    def generate(
        self,
        encoded: Any,
        tasks: Sequence[Task],
        previous_tokens: Sequence[list[int]],
        given_tokens: Sequence[list[int]],
        *,
        beam_size: int,
        temperature: float,
        max_tokens: int | None = None,
        longest_repeat: int | None = None,
    ) -> list[DecodedWindow]:
        """Decode each member of an encoded batch once, by its task, after its previous tokens.

        A transcript goes on behind its given tokens, and is returned without them. No more than ``longest_repeat``
        tokens in a row come twice in it.
        """
        search = {"beam_size": 1, "sampling_topk": 0} if temperature > 0 else {"beam_size": beam_size}
        prompts = [
            self._whisper.get_prompt(self.tokenizer(task), previous) + given
            for task, previous, given in zip(tasks, previous_tokens, given_tokens, strict=True)
        ]
        # what is given counts as generated
        most = None if max_tokens is None else max_tokens + max(map(len, given_tokens))
        results = self.decoder.generate(
            encoded,
            prompts,
            sampling_temperature=temperature,
            max_length=self._max_length(most, max(map(len, prompts))),
            # speech begins within a second, but for what follows other speech
            max_initial_timestamp_index=round((30.0 if any(given_tokens) else 1.0) / self.timestamp_seconds),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed_tokens,
            no_repeat_ngram_size=0 if longest_repeat is None else longest_repeat + 1,
            **search,
        )
        return [
            self._decoded_window(task, result, len(given), temperature)
            for task, result, given in zip(tasks, results, given_tokens, strict=True)
        ]

    def _max_length(self, tokens: int | None, prompt: int) -> int:
        """With which so many tokens are generated: CTranslate2 takes half of it, or what the prompt leaves."""
        return self.max_tokens if tokens is None else min(self.max_tokens, max(2 * tokens, tokens + prompt))

    def _decoded_window(self, task: Task, result: Any, given: int, temperature: float) -> DecodedWindow:
        sequence = list(result.sequences_ids[0])
        tokens = sequence[given:]
        text = self.tokenizer(task).decode(tokens).strip()
        return DecodedWindow(
            tokens=tokens,
            # the score is a mean over what was given, too, which costs nothing
            avg_logprob=result.scores[0] * len(sequence) / (len(tokens) + 1),
            no_speech_prob=result.no_speech_prob,
            compression_ratio=get_compression_ratio(text) if text else 0.0,
            temperature=temperature,
        )

    def split_at_timestamps(
        self, tokenizer: Any, tokens: list[int], start_frame: int, frames: int
    ) -> tuple[list[dict[str, Any]], int, bool]:
        """(segments, next seek, whether a single timestamp ends the window), as faster-whisper has them."""
        fps = self.frames_per_second
        segments, seek, single_timestamp_ending = self._whisper._split_segments_by_timestamps(
            tokenizer, tokens, start_frame / fps, frames, frames / fps, start_frame
        )
        for segment in segments:
            segment["seek"] = start_frame
        return segments, seek, single_timestamp_ending

    def add_word_timestamps(
        self, segments: list[list[dict[str, Any]]], tokenizer: Any, encoded: Any, frames: list[int]
    ) -> None:
        """Add ``words`` to the segments of each window, timed by cross-attention."""
        self._whisper.add_word_timestamps(
            segments, tokenizer, encoded, frames, PREPENDED_PUNCTUATION, APPENDED_PUNCTUATION, 0.0
        )
