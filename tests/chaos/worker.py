"""A worker whose Whisper dies of one word: ``python -m tests.chaos.worker cpu|gpu|io``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from speech.engines.base import Utterance
from speech.engines.whisper import WhisperEngine
from speech.words import Hypothesis
from workers.__main__ import main

POISON = "poison"
original = WhisperEngine.transcribe


def transcribe(self: WhisperEngine, utterances: Sequence[Utterance]) -> list[Hypothesis]:
    """Ends the process without a word, as a crash in native code does."""
    if any(POISON in utterance.hotwords for utterance in utterances):
        os._exit(1)
    return original(self, utterances)


if __name__ == "__main__":
    WhisperEngine.transcribe = transcribe  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
