"""What is decoded again, and how, with a decoder that writes what it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import ctranslate2
import numpy as np
from faster_whisper.transcribe import get_compression_ratio

from speech.asr.whisper.chunk_state import ChunkState
from speech.asr.whisper.decoding import LONGEST_REPEAT, REFINE, DecodedWindow, DecodingOptions, Task
from speech.asr.whisper.fallback import Fallback
from speech.asr.whisper.model import LoadedModel

SECONDS = 10
MOST = 224
VARIED = [int(token) for token in np.random.default_rng(1).integers(0, 10_000, MOST)]
LOOPING = VARIED[:10] + [4, 7, 2, 3] * MOST


class Call(NamedTuple):
    written: int
    temperature: float
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
        **search: Any,
    ) -> list[DecodedWindow]:
        temperature, longest_repeat = search["temperature"], search["longest_repeat"]
        again = temperature > 0 or longest_repeat is not None
        tokens = list((self.otherwise if again else self.first)[:MOST])
        ratio = get_compression_ratio(" ".join(map(str, tokens)))
        self.calls.append(Call(len(tokens), temperature, longest_repeat))
        window = DecodedWindow(tokens, -0.2 if again else self.logprob, 0.0, ratio, temperature)
        return [window] * len(tasks)


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


def test_a_loop_is_decoded_again_without_repeats() -> None:
    writer = Writer(LOOPING, VARIED[:20])
    (window,) = decode(writer)
    assert (window.tokens, window.again, window.temperature) == (VARIED[:20], True, 0.0)
    assert writer.calls == [Call(MOST, 0.0, None), Call(20, 0.0, LONGEST_REPEAT)]


def test_what_loops_either_way_is_known_to() -> None:
    (window,) = decode(Writer(LOOPING, LOOPING))
    assert REFINE.is_repetitive(window)
    # and prompts no other
    assert window.again


def test_what_is_improbable_is_sampled() -> None:
    writer = Writer(VARIED[:30], VARIED[:20], logprob=-1.5)
    (window,) = decode(writer)
    assert (window.tokens, window.temperature) == (VARIED[:20], REFINE.fallback_temperature)
    # but not where it is decoded once
    writer = Writer(VARIED[:30], VARIED[:20], logprob=-1.5)
    (window,) = decode(writer, replace(REFINE, fallback_temperature=None))
    assert window.tokens == VARIED[:30]
