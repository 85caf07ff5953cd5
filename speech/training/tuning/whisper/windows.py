"""Windows of 30 s to train on: several clips with pauses between them, and timestamps as the engine decodes them.

Whisper writes where each segment begins and ends. Tuned on single clips without that, it would unlearn it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer as Vocabulary

from speech.audio.media import open_media
from speech.engines import SAMPLE_RATE, Samples
from speech.training.tuning.data import Clip
from speech.training.tuning.evaluate import UNSPACED_LANGUAGES

WINDOW_SECONDS = 30
WINDOW_FRAMES = 3000
SECONDS_PER_TIMESTAMP = 0.02
PAUSE_SECONDS = (0.1, 0.8)
"""Shortest and longest pause before a clip."""
MAX_TOKENS = 448
"""The decoder's positions."""
UNCORRECTED_WEIGHT = 0.3
"""Of what both models agreed on, against 1 for what a person has read."""


@dataclass(frozen=True, slots=True)
class HeardClip:
    """A clip whose audio can be read, and its length."""

    clip: Clip
    seconds: float


@dataclass(frozen=True, slots=True)
class Window:
    """Clips of one language, each with the second at which it begins."""

    language: str
    clips: tuple[tuple[HeardClip, float], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """Features (mels, frames); for each position of the decoder its input, its target and the target's weight."""

    features: NDArray[np.float32]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]


class Windows:
    """Makes windows and examples with the vocabulary of a base."""

    def __init__(self, base: Path, *, mels: int) -> None:
        """Raises OSError, ValueError."""
        self._vocabulary = Vocabulary.from_file(str(base / "tokenizer.json"))
        self._features = FeatureExtractor(feature_size=mels)
        # the multilingual vocabularies have one token more than the English one
        self.multilingual = self._vocabulary.token_to_id("<|startoftranscript|>") != 50257
        self._tokenizer = lru_cache(self._make_tokenizer)

    def fits(self, heard: HeardClip) -> bool:
        """Whether the vocabulary knows its language, and one window has room for it."""
        language = heard.clip.language_code
        if language is None or (language != "en" if not self.multilingual else language not in _LANGUAGE_CODES):
            return False
        return (
            heard.seconds + PAUSE_SECONDS[0] <= WINDOW_SECONDS
            and 0 < self._token_count(heard.clip) < MAX_TOKENS - 8
        )

    def pack(self, clips: Iterable[HeardClip], seed: str) -> list[Window]:
        """The clips in a random order, as many to a window as have room; of one language each."""
        generator = random.Random(seed)  # noqa: S311
        by_language: dict[str, list[HeardClip]] = {}
        for heard in clips:
            by_language.setdefault(heard.clip.language_code or "", []).append(heard)
        windows = []
        for language, spoken in sorted(by_language.items()):
            generator.shuffle(spoken)
            windows += [Window(language, tuple(placed)) for placed in self._placed(spoken, generator)]
        generator.shuffle(windows)
        return windows

    def example(self, window: Window) -> Example:
        """Reads the window's audio: one is in memory at a time. Raises OSError, MediaError."""
        tokenizer = self._tokenizer(window.language)
        tokens, weights = list(tokenizer.sot_sequence), [0.0] * len(tokenizer.sot_sequence)
        for heard, start in window.clips:
            written = [self._timestamp(tokenizer, start), *self._text_tokens(heard.clip)]
            written.append(self._timestamp(tokenizer, start + heard.seconds))
            tokens += written
            weights += [1.0 if heard.clip.human else UNCORRECTED_WEIGHT] * len(written)
        tokens.append(tokenizer.eot)
        weights.append(1.0)
        # as the engine has it: silence behind the audio is none in the features
        spoken = self._features(sound(window))[..., :-1][:, :WINDOW_FRAMES]
        features = np.zeros((spoken.shape[0], WINDOW_FRAMES), np.float32)
        features[:, : spoken.shape[1]] = spoken
        return Example(features, np.array(tokens[:-1]), np.array(tokens[1:]), np.array(weights[1:], np.float32))

    def text_starts(self) -> int:
        """Ids below it are text."""
        return int(self._tokenizer("en").eot)

    def _placed(
        self, clips: Sequence[HeardClip], generator: random.Random
    ) -> Iterator[list[tuple[HeardClip, float]]]:
        placed: list[tuple[HeardClip, float]] = []
        at, tokens = 0.0, 8
        for heard in clips:
            start, count = at + generator.uniform(*PAUSE_SECONDS), self._token_count(heard.clip)
            if start + heard.seconds > WINDOW_SECONDS or tokens + count > MAX_TOKENS:
                if placed:
                    yield placed
                placed, tokens = [], 8
                start = min(generator.uniform(*PAUSE_SECONDS), WINDOW_SECONDS - heard.seconds)
            start = round(start / SECONDS_PER_TIMESTAMP) * SECONDS_PER_TIMESTAMP
            placed.append((heard, start))
            at, tokens = start + heard.seconds, tokens + count
        if placed:
            yield placed

    def _token_count(self, clip: Clip) -> int:
        return len(self._text_tokens(clip)) + 2

    def _text_tokens(self, clip: Clip) -> list[int]:
        space = "" if clip.language_code in UNSPACED_LANGUAGES else " "
        return list(self._tokenizer("en").encode(space + clip.text))

    @staticmethod
    def _timestamp(tokenizer: Tokenizer, seconds: float) -> int:
        return int(tokenizer.timestamp_begin) + round(min(seconds, WINDOW_SECONDS) / SECONDS_PER_TIMESTAMP)

    def _make_tokenizer(self, language: str) -> Tokenizer:
        known = language if self._vocabulary.token_to_id(f"<|{language}|>") is not None else "zh"
        return Tokenizer(self._vocabulary, self.multilingual, task="transcribe", language=known)


def sound(window: Window) -> Samples:
    """Its clips where they begin, up to the end of the last. Raises OSError, MediaError."""
    audio = np.zeros(WINDOW_SECONDS * SAMPLE_RATE, np.float32)
    end = 0
    for heard, start in window.clips:
        samples = read_audio(heard.clip.source)
        begin = round(start * SAMPLE_RATE)
        end = min(begin + len(samples), len(audio))
        audio[begin:end] = samples[: end - begin]
    return audio[:end]


def read_audio(path: Path) -> Samples:
    """Raises OSError; MediaError where it is no recording of at most a window."""
    with path.open("rb") as file, open_media(file, max_duration=WINDOW_SECONDS + 1) as media:
        return np.concatenate(list(media.blocks(seconds=WINDOW_SECONDS)))
