"""Whisper through whisper.cpp (the ``whisper-cpp`` extra), for machines where CTranslate2 does not run.

It decodes one utterance at a time, with whisper.cpp's own temperature fallback and seeking.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper.transcribe import get_compression_ratio

from speech.engines import SAMPLE_RATE, EngineInfo, EngineUnavailable, Utterance
from speech.text.languages import LANGUAGES
from speech.text.script import is_cjk, split_characters
from speech.text.words import Hypothesis, Phrase, Word

MIN_SAMPLES = SAMPLE_RATE + 1600
"""whisper.cpp refuses less than a second; shorter utterances are padded with silence."""


@dataclass(frozen=True, slots=True)
class _Token:
    data: bytes
    start: float
    end: float
    probability: float


class WhisperCppEngine:
    """A loaded ggml model. Calls are serialised: a model has one state."""

    languages = LANGUAGES
    translates = False
    takes_hotwords = True

    def __init__(self, folder: Path, *, name: str, threads: int = 1) -> None:
        """``folder`` holds ggml-model.bin. Raises EngineUnavailable."""
        try:
            self._native: Any = importlib.import_module("_pywhispercpp")
            model = importlib.import_module("pywhispercpp.model")
        except (ImportError, OSError) as error:
            raise EngineUnavailable(
                f"The engine whisper-cpp needs pywhispercpp (pip install 'longhand[whisper-cpp]'): {error}."
            ) from error
        path = folder / "ggml-model.bin"
        if not path.is_file():  # pywhispercpp would take it for a model's name, and download it
            raise EngineUnavailable(f"Whisper {name} cannot load: {path} is missing.")
        try:
            self._model: Any = model.Model(
                str(path),
                redirect_whispercpp_logs_to=None,
                n_threads=threads,
                token_timestamps=True,
                print_progress=False,
                print_realtime=False,
                print_timestamps=False,
                suppress_nst=True,
                no_context=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"Whisper {name} cannot load from {path}: {error}") from error
        self._multilingual = bool(self._native.whisper_is_multilingual(self._model._ctx))
        self._lock = threading.Lock()
        self.info = EngineInfo("whisper-cpp", name, "cpu", "float16")

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """One hypothesis for each utterance, in order."""
        with self._lock:
            return [self._transcribe_one(utterance) for utterance in utterances]

    def _transcribe_one(self, utterance: Utterance) -> Hypothesis:
        duration = len(utterance.samples) / SAMPLE_RATE
        padding = max(0, MIN_SAMPLES - len(utterance.samples))
        self._model.transcribe(
            np.pad(utterance.samples, (0, padding)),
            language=(utterance.language or utterance.expected or "") if self._multilingual else "en",
            initial_prompt=", ".join(utterance.hotwords),
        )
        context = self._model._ctx
        phrases: list[Phrase] = []
        earliest = 0.0
        for i in range(self._native.whisper_full_n_segments(context)):
            words = tuple(_words(self._tokens(context, i), earliest, duration))
            if words:
                text = self._native.whisper_full_get_segment_text(context, i).decode(errors="replace").strip()
                confidence = float(np.mean([word.confidence for word in words]))
                phrases.append(Phrase(words[0].start, words[-1].end, text, words, confidence))
                earliest = words[-1].end
        language = self._native.whisper_lang_str(self._native.whisper_full_lang_id(context))
        return Hypothesis(language, tuple(phrases), _signals(phrases))

    def _tokens(self, context: Any, segment: int) -> Iterator[_Token]:
        native = self._native
        for i in range(native.whisper_full_n_tokens(context, segment)):
            token = native.whisper_full_get_token_data(context, segment, i)
            if token.id < native.whisper_token_eot(context):
                data = native.whisper_token_to_bytes(context, token.id)
                yield _Token(data, token.t0 / 100, token.t1 / 100, token.p)


def _signals(phrases: Sequence[Phrase]) -> dict[str, float]:
    text = "".join(phrase.text for phrase in phrases)
    confidences = [max(word.confidence, 1e-9) for phrase in phrases for word in phrase.words]
    if not confidences:
        return {}
    return {
        "avg_logprob": float(np.mean(np.log(confidences))),
        "compression_ratio": float(get_compression_ratio(text)),
    }


def _words(tokens: Iterator[_Token], earliest: float, duration: float) -> Iterator[Word]:
    """Tokens that begin with a space begin a word; characters of scripts without spaces are words themselves."""
    group: list[_Token] = []
    for token in tokens:
        text = _text(group)
        if group and "\N{REPLACEMENT CHARACTER}" not in text and _begins_word(token, text):
            yield from _word(group, earliest, duration)
            group = []
        group.append(token)
    yield from _word(group, earliest, duration)


def _text(group: Sequence[_Token]) -> str:
    return b"".join(token.data for token in group).decode(errors="replace")


def _begins_word(token: _Token, preceding: str) -> bool:
    text = token.data.decode(errors="replace")
    return text.startswith(" ") or (text[:1].isalnum() and (is_cjk(text[0]) or is_cjk(preceding[-1])))


def _word(group: Sequence[_Token], earliest: float, duration: float) -> Iterator[Word]:
    text = _text(group)
    if text.strip():
        start = min(max(group[0].start, earliest), duration)
        end = min(max(group[-1].end, start), duration)
        confidence = sum(token.probability for token in group) / len(group)
        word = Word(text.strip(), start, end, confidence, glued=not text.startswith(" "))
        yield from split_characters(word)
