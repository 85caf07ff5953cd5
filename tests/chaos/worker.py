"""A worker whose Whisper crashes or is simulated on request: ``python -m tests.chaos.worker cpu|gpu|io``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import tests.chaos.clock  # noqa: F401  (before anything that takes the time)
from speech.asr.whisper.engine import WhisperEngine
from speech.engines import Utterance
from speech.text.words import Hypothesis
from workers.__main__ import main

POISON = "poison"
"""A hotword that kills the process."""

COST = "cost"
"""With a hotword ``cost 0.2`` a chunk takes 0.2 s and yields no text."""

original = WhisperEngine.transcribe


def transcribe(self: WhisperEngine, utterances: Sequence[Utterance]) -> list[Hypothesis]:
    """May end the process at once, as a crash in native code does."""
    if any(POISON in utterance.hotwords for utterance in utterances):
        os._exit(1)
    if not any(_cost(utterance) is not None for utterance in utterances):
        return original(self, utterances)
    return [_simulated(u) if _cost(u) is not None else original(self, [u])[0] for u in utterances]


def _cost(utterance: Utterance) -> float | None:
    return next((float(word.split()[1]) for word in utterance.hotwords if word.startswith(COST)), None)


def _simulated(utterance: Utterance) -> Hypothesis:
    time.sleep(_cost(utterance) or 0)
    return Hypothesis("en")


if __name__ == "__main__":
    WhisperEngine.transcribe = transcribe  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
