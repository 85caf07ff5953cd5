"""What is decoded again, and how far a loop gets, with a decoder that writes what it is told to."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
import pytest

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import LEAST_TOKENS, LONGEST_REPEAT, REFINE, DecodedWindow, DecodingOptions, Task
from speech.asr.whisper.fallback import Fallback
from speech.asr.whisper.model import LoadedModel

SECONDS = 10
LOOK = REFINE.tokens_before_look(SECONDS)
MOST = 224
VARIED = [int(token) for token in np.random.default_rng(1).integers(0, 10_000, MOST)]
LOOPING = VARIED[:10] + [4, 7, 2, 3] * MOST


class Call(NamedTuple):
    written: int
    longest_repeat: int | None


@dataclass
class Writer(LoadedModel):
    """Writes ``first``; ``otherwise`` by sampling or without repeats."""

    first: Sequence[int]
    otherwise: Sequence[int]
    logprob: float = -0.2
    calls: list[Call] = field(default_factory=list)

    def seconds_left(self, chunk: ChunkState) -> float:
        return SECONDS

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
        again = temperature > 0 or longest_repeat is not None
        text = self.otherwise if again else self.first
        windows = []
        for given in given_tokens:
            assert list(text[: len(given)]) == given
            tokens = list(text[len(given) : min(MOST, len(given) + (max_tokens or MOST))])
            ratio = self.compression_ratio(Task("en"), tokens)
            windows.append(DecodedWindow(tokens, -0.2 if again else self.logprob, 0.0, ratio, temperature))
        self.calls.append(Call(max(len(window.tokens) for window in windows), longest_repeat))
        return windows

    def compression_ratio(self, task: Task, tokens: Sequence[int]) -> float:
        text = " ".join(map(str, tokens)).encode()
        return len(text) / len(zlib.compress(text))


def decode(writer: Writer, options: DecodingOptions = REFINE, chunks: int = 1) -> list[DecodedWindow]:
    state = ChunkState(np.zeros((80, SECONDS * 100), np.float32), "en", None, [], translate=False)
    states = [replace(state) for _ in range(chunks)]
    encoded = ctranslate2.StorageView.from_array(np.zeros((chunks, 1, 1), np.float32))
    return Fallback(writer, options).decode(states, [[] for _ in states], encoded)


def test_good_windows_are_decoded_once_together() -> None:
    writer = Writer(VARIED[:30], [])
    windows = decode(writer, chunks=3)
    assert [window.tokens for window in windows] == [VARIED[:30]] * 3
    assert [call.written for call in writer.calls] == [30]
    assert not any(window.again for window in windows)


def test_who_says_much_is_heard_to_the_end() -> None:
    writer = Writer(VARIED, [])
    (window,) = decode(writer)
    assert window.tokens == VARIED
    assert [call.written for call in writer.calls] == [LOOK, MOST - LOOK]
    assert window.avg_logprob == pytest.approx(writer.logprob, rel=0.02)
    assert not REFINE.needs_fallback(window)


def test_a_loop_ends_where_it_is_seen_and_is_decoded_without_repeats() -> None:
    writer = Writer(LOOPING, VARIED[:20])
    (window,) = decode(writer)
    assert (window.tokens, window.again, window.temperature) == (VARIED[:20], True, 0.0)
    assert writer.calls == [Call(LOOK, None), Call(20, LONGEST_REPEAT)]


def test_what_loops_either_way_is_known_to() -> None:
    (window,) = decode(Writer(LOOPING, LOOPING))
    assert REFINE.is_repetitive(window)


def test_a_loop_that_begins_behind_the_look_is_decoded_again_too() -> None:
    writer = Writer(VARIED[:LOOK] + LOOPING, VARIED[:20])
    (window,) = decode(writer)
    assert window.tokens == VARIED[:20]
    assert [call.written for call in writer.calls] == [LOOK, MOST - LOOK, 20]


def test_what_is_improbable_is_sampled() -> None:
    writer = Writer(VARIED[:30], VARIED[:20], logprob=-1.5)
    (window,) = decode(writer)
    assert (window.tokens, window.temperature) == (VARIED[:20], REFINE.fallback_temperature)
    # but not where it is decoded once
    writer = Writer(VARIED[:30], VARIED[:20], logprob=-1.5)
    (window,) = decode(writer, replace(REFINE, fallback_temperature=None))
    assert window.tokens == VARIED[:30]


def test_what_has_a_bound_is_never_longer() -> None:
    for rate in (2, 16):
        options = replace(REFINE, tokens_per_second=rate)
        (window,) = decode(Writer(VARIED, []), options)
        assert len(window.tokens) == options.max_tokens(SECONDS) == LEAST_TOKENS + rate * SECONDS
