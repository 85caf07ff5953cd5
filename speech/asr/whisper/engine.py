"""The Whisper engine: many chunks at once, each decoded window after window from its own seek position.

Decoding each window once would lose words: Whisper often stops early, and is meant to continue from its last
timestamp. So every chunk keeps a seek position, and each round decodes a batch of the windows that have audio
left, with temperature fallback for single members. On a CPU the chunks are divided among streams.
(The sequential algorithm is that of "Robust Speech Recognition via Large-Scale Weak Supervision", section 4.5.)
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from speech.asr.loops import break_loop, is_loop
from speech.asr.second_readings import SHIFTS, elect, is_doubtful, shifted
from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import REFINE, DecodingOptions, Task
from speech.asr.whisper.device import resolve
from speech.asr.whisper.encoder_output import select_members
from speech.asr.whisper.fallback import Fallback
from speech.asr.whisper.hypothesis import build_hypothesis
from speech.asr.whisper.language import LanguageDetection
from speech.asr.whisper.model import LoadedModel
from speech.asr.whisper.prompts import Prompts
from speech.asr.whisper.word_times import WordTimes
from speech.engines import SAMPLE_RATE, EngineInfo, Utterance
from speech.models.names import has_learnt_to_translate
from speech.models.streams import Streams
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis

MOST_SIDE_BY_SIDE = 4
"""Chunks that a stream decodes together, on a CPU. A step of the decoder reads all of its weights, however many it
is for: two together take 0.8 of the time of two alone, four 0.7, and more hardly less."""


class WhisperEngine:
    """A loaded Whisper model. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        decoding: DecodingOptions = REFINE,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 1,
        instead_of: str | None = None,
    ) -> None:
        """Raises EngineUnavailable when the model or the device cannot be used."""
        device, compute_type = resolve(device, compute_type)
        self._streams = Streams(threads) if device == "cpu" else None
        self._model = LoadedModel(
            folder,
            name=name,
            device=device,
            compute_type=compute_type,
            threads=self._streams.threads if self._streams else threads,
            workers=self._streams.count if self._streams else 1,
        )
        self._options = decoding
        self._prompts = Prompts(self._model)
        self._first = Fallback(self._model, decoding)
        self._again = Fallback(self._model, replace(decoding, beam_size=1, fallback_temperature=None))
        self._languages = LanguageDetection(self._model, decoding)
        self._word_times = WordTimes(self._model, word_timestamps=decoding.word_timestamps)
        self.info = EngineInfo("whisper", name, device, compute_type, instead_of)

    @property
    def multilingual(self) -> bool:
        return self._model.multilingual

    @property
    def languages(self) -> frozenset[str]:
        return LANGUAGES if self.multilingual else frozenset({"en"})

    @property
    def translates(self) -> bool:
        return self.multilingual and has_learnt_to_translate(self.info.model)

    @property
    def takes_hotwords(self) -> bool:
        return True

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance of at most 30 s, in order."""
        if not self._streams:
            return self.transcribe_batch(utterances)
        size = max(1, min(-(-len(utterances) // self._streams.count), MOST_SIDE_BY_SIDE))
        groups = [utterances[start : start + size] for start in range(0, len(utterances), size)]
        return [hypothesis for group in self._streams.map(self.transcribe_batch, groups) for hypothesis in group]

    def transcribe_batch(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """The same in a single stream of batches."""
        hypotheses = [
            break_loop(utterance, hypothesis, self.transcribe_batch) if is_loop(hypothesis) else hypothesis
            for utterance, hypothesis in zip(utterances, self._read(utterances, self._first), strict=True)
        ]
        return self._read_again(utterances, hypotheses) if self._options.second_readings else hypotheses

    def _read_again(self, utterances: Sequence[Utterance], firsts: Sequence[Hypothesis]) -> list[Hypothesis]:
        """The hypotheses; where one is doubtful, what it and the second readings have elected."""
        doubtful = {
            i for i, (said, first) in enumerate(zip(utterances, firsts, strict=True)) if is_doubtful(said, first)
        }
        later = [reading for i in sorted(doubtful) for reading in shifted(utterances[i], firsts[i])]
        readings = iter(self._read(later, self._again))
        return [
            elect(utterances[i], first, [next(readings) for _ in SHIFTS]) if i in doubtful else first
            for i, first in enumerate(firsts)
        ]

    def _read(self, utterances: Sequence[Utterance], fallback: Fallback) -> list[Hypothesis]:
        """One hypothesis for each utterance, decoded by ``fallback``."""
        chunks = [self._chunk_state(utterance) for utterance in utterances]
        min_rest_frames = round(self._options.min_rest_seconds * self._model.frames_per_second)
        while pending := [
            part
            for chunk in chunks
            for part in chunk.decoded_units
            if part.seek == 0 or part.frames - part.seek > min_rest_frames
        ]:
            for batch in self._batches(pending):
                self._decode_windows(batch, fallback)
        return [build_hypothesis(chunk, self._model) for chunk in chunks]

    def _batches(self, windows: Sequence[ChunkState]) -> Iterator[list[ChunkState]]:
        """On a CPU those of equal length, which are heard as each would be alone."""
        by_frames: dict[int, list[ChunkState]] = defaultdict(list)
        for window in windows:
            by_frames[self._window_frames([window]) if self._streams else 0].append(window)
        for alike in by_frames.values():
            for start in range(0, len(alike), self._options.batch_size):
                yield alike[start : start + self._options.batch_size]

    def detect_language(self, utterance: Utterance) -> str:
        """The language of most of the utterance; the expected one unless the evidence for another is strong."""
        chunk = self._chunk_state(utterance)
        self._languages.detect([chunk], self._model.encode([chunk], self._window_frames([chunk])))
        frames: Counter[str] = Counter()
        for part in chunk.decoded_units:
            frames[part.decoding_language] += part.frames
        return frames.most_common(1)[0][0]

    def _chunk_state(self, utterance: Utterance) -> ChunkState:
        language = utterance.language if self.multilingual else "en"
        # words are aligned with all of the sound, and who has heard another language hears it again
        usable = () if self._options.word_timestamps else utterance.before
        spoken = (said for said in usable if said.language == language is not None)
        before = [*dropwhile(lambda said: not said.words, spoken)]
        before_tokens = self._prompts.transcript(before, Task(language or "en"))
        if len(before_tokens) > self._model.max_tokens // 3:
            before, before_tokens = [], []  # nobody says so much: it is a loop, and leaves no room
        samples = [*(said.samples for said in before), utterance.samples]
        return ChunkState(
            features=self._model.features(np.concatenate(samples)),
            language=language,
            expected_language=utterance.expected,
            hotword_tokens=self._prompts.hotword_tokens(utterance.hotwords),
            translate=utterance.translate,
            before_frames=round(sum(map(len, samples[:-1])) / SAMPLE_RATE * self._model.frames_per_second),
            before_tokens=before_tokens,
        )

    def _decode_windows(self, chunks: Sequence[ChunkState], fallback: Fallback) -> None:
        """One round: decode the next window of each chunk. A chunk that gets divided waits for the next round."""
        encoded = self._model.encode(chunks, self._window_frames(chunks))
        self._languages.detect(chunks, encoded)
        if undivided := [i for i, chunk in enumerate(chunks) if not chunk.parts]:
            self._transcribe_windows(
                [chunks[i] for i in undivided], select_members(encoded, undivided, len(chunks)), fallback
            )

    def _window_frames(self, chunks: Sequence[ChunkState]) -> int:
        """Frames to encode: those of the longest rest and the padding, in whole seconds, or a full window."""
        fps = self._model.frames_per_second
        rest = max(chunk.frames - chunk.seek for chunk in chunks)
        return min(math.ceil(rest / fps + self._options.padding_seconds) * fps, self._model.window_frames)

    def _transcribe_windows(self, chunks: Sequence[ChunkState], encoded: Any, fallback: Fallback) -> None:
        windows = fallback.decode(chunks, [self._prompts.build(chunk) for chunk in chunks], encoded)
        by_task: dict[Task, list[int]] = defaultdict(list)
        for position, (chunk, window) in enumerate(zip(chunks, windows, strict=True)):
            chunk.windows.append(window)
            keeps_context = self._options.keeps_context and not window.again
            chunk.context_tokens = chunk.context_tokens + window.tokens if keeps_context else []
            if self._options.is_silent(window):
                chunk.seek = chunk.frames
            else:
                by_task[chunk.task].append(position)
        groups = list(by_task.values())
        if self._streams:  # where a word ends may depend on who is before it in the call
            groups = [[position] for group in groups for position in group]
        for positions in groups:
            self._word_times.place(
                chunks[positions[0]].task,
                [chunks[i] for i in positions],
                [windows[i] for i in positions],
                select_members(encoded, positions, len(chunks)),
            )
