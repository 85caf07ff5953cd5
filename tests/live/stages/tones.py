"""Speech of which every word can be accounted for: tones, and a recogniser that reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from speech.engines import SAMPLE_RATE, EngineInfo, Samples, Utterance
from speech.text.words import Hypothesis, Phrase, Word

WORD_SAMPLES = SAMPLE_RATE // 5
"""One word, 200 ms."""
WORD_SECONDS = WORD_SAMPLES / SAMPLE_RATE
VOCABULARY = 24
_LOWEST, _STEP = 400, 100
"""Hertz."""


def speak(words: Sequence[int]) -> Samples:
    """Each word, of 0 to VOCABULARY - 1, is a tone of its own."""
    seconds = np.arange(WORD_SAMPLES) / SAMPLE_RATE
    ramp = np.minimum(1, np.minimum(seconds, seconds[::-1]) / 0.01)
    return np.concatenate(
        [0.3 * ramp * np.sin(2 * np.pi * (_LOWEST + _STEP * word) * seconds) for word in words]
    ).astype(np.float32)


def listen(samples: Samples) -> list[int]:
    """The words; what is shorter than a word, or silent, is none."""
    heard = []
    for start in range(0, len(samples) - WORD_SAMPLES // 2, WORD_SAMPLES):
        piece = samples[start : start + WORD_SAMPLES]
        if np.sqrt(np.mean(piece**2)) < 0.02:
            continue
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), SAMPLE_RATE))
        heard.append(round((int(spectrum.argmax()) - _LOWEST) / _STEP))
    return heard


class ToneTranscriber:
    """A Transcriber of such speech. Words whose tone is not exact have a low confidence."""

    info = EngineInfo("tones", "tones", "cpu", "float32")
    languages = frozenset({"en", "de", "zh"})
    translates = False
    takes_hotwords = True

    def __init__(self, seconds: float = 0.0) -> None:
        """``seconds``: that each hypothesis takes."""
        self._seconds = seconds

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        time.sleep(self._seconds)
        return [self._hypothesis(utterance) for utterance in utterances]

    def detect_language(self, utterance: Utterance) -> str:
        return "zh" if listen(utterance.samples)[:1] == [0] else "en"

    @staticmethod
    def _hypothesis(utterance: Utterance) -> Hypothesis:
        words = tuple(
            Word(f"w{word}", WORD_SECONDS * place, WORD_SECONDS * (place + 1), 1.0)
            for place, word in enumerate(listen(utterance.samples))
        )
        if not words:
            return Hypothesis(language=utterance.language or "en", phrases=())
        text = " ".join(word.text for word in words)
        phrase = Phrase(words[0].start, words[-1].end, text, words, 1.0)
        return Hypothesis(language=utterance.language or "en", phrases=(phrase,))
