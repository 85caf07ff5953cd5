"""SenseVoice-Small through sherpa-onnx, which computes its front end (Kaldi fbank, LFR, CMVN) and greedy CTC."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sherpa_onnx

from speech.engines.base import SAMPLE_RATE, EngineInfo, EngineUnavailable, Utterance
from speech.text import ends_sentence, is_cjk, join_words
from speech.words import Hypothesis, Phrase, Word

TOKEN_SECONDS = 0.24
"""Time given to a word's last token: CTC says when a token begins, not when it ends."""

UNKNOWN = 0.7
"""Confidence where the runtime gives no posteriors."""

TAG = re.compile(r"<\|(.*?)\|>")
WORD_BEGINS = "\N{LOWER ONE EIGHTH BLOCK}"
"""How sentencepiece marks the space before a piece."""


class SenseVoiceEngine:
    """A loaded SenseVoice model, which finds the language of each chunk itself."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """Raises EngineUnavailable when the model cannot load."""
        try:
            self._recognizer = sherpa_onnx.OfflineRecognizer.from_sense_voice(
                model=str(folder / "model.int8.onnx"),
                tokens=str(folder / "tokens.txt"),
                num_threads=threads,
                language="auto",
                use_itn=True,
            )
        except (RuntimeError, ValueError) as error:
            raise EngineUnavailable(f"SenseVoice cannot load from {folder}: {error}") from error
        self.info = EngineInfo("sensevoice-onnx", folder.name, "cpu", "int8")

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        streams = []
        for utterance in utterances:
            stream = self._recognizer.create_stream()
            stream.accept_waveform(SAMPLE_RATE, utterance.samples)
            streams.append(stream)
        self._recognizer.decode_streams(streams)
        return [
            hypothesis(
                stream.result.tokens,
                stream.result.timestamps,
                stream.result.ys_log_probs,
                language=_tag(stream.result.lang),
                duration=len(utterance.samples) / SAMPLE_RATE,
            )
            for utterance, stream in zip(utterances, streams, strict=True)
        ]


def _tag(text: str) -> str | None:
    found = TAG.search(text)
    return found[1] if found else text or None


def hypothesis(
    tokens: Sequence[str],
    starts: Sequence[float],
    log_probs: Sequence[float],
    *,
    language: str | None,
    duration: float,
) -> Hypothesis:
    """Pieces with the seconds they begin at become words, and words phrases, up to ``duration``."""
    words = tuple(_words(tokens, starts, log_probs, duration))
    signals = {"avg_logprob": sum(log_probs) / len(log_probs)} if len(log_probs) else {}
    return Hypothesis(language, tuple(_phrases(words)), signals)


def _words(
    tokens: Sequence[str], starts: Sequence[float], log_probs: Sequence[float], duration: float
) -> Iterable[Word]:
    sure = [math.exp(value) for value in log_probs] if len(log_probs) == len(tokens) else [UNKNOWN] * len(tokens)
    groups: list[list[int]] = []
    for i, token in enumerate(tokens):
        bare = token.lstrip(WORD_BEGINS)
        if TAG.fullmatch(bare) or (not bare and token != WORD_BEGINS):
            continue
        begins = token.startswith(WORD_BEGINS) or not groups or is_cjk(bare[:1] or " ") or not bare[:1].isalnum()
        # punctuation belongs to the word before it
        if begins and not (groups and bare and not any(map(str.isalnum, bare))):
            groups.append([i])
        else:
            groups[-1].append(i)
    for place, group in enumerate(groups):
        text = "".join(tokens[i] for i in group).replace(WORD_BEGINS, "")
        if not text:
            continue
        start = min(starts[group[0]], duration)
        following = starts[groups[place + 1][0]] if place + 1 < len(groups) else duration
        end = min(max(start, starts[group[-1]] + TOKEN_SECONDS), max(following, start), duration)
        confidence = sum(sure[i] for i in group) / len(group)
        yield Word(text, start, end, confidence, glued=not tokens[group[0]].startswith(WORD_BEGINS))


def _phrases(words: Sequence[Word]) -> Iterable[Phrase]:
    group: list[Word] = []
    for word in words:
        group.append(word)
        if ends_sentence(word.text) or word is words[-1]:
            confidence = sum(w.confidence for w in group) / len(group)
            yield Phrase(group[0].start, group[-1].end, join_words(group), tuple(group), confidence)
            group = []
