"""``python -m benchmarks.live.fake_gateway PORT SESSIONS``: live sessions whose ASR takes time alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import uvicorn

from api.__main__ import listen
from cli.stack.process import HOST
from db.settings import Settings, get_settings
from live.__main__ import configuration
from live.app import create_app
from live.assembly import load_voice_detection
from live.inprocess.detection import InProcessVad
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.stages import Stages
from speech.engines import SAMPLE_RATE, EngineInfo, Utterance
from speech.text.words import Hypothesis, Phrase, Word

DECODE_SECONDS, DECODE_SECONDS_OF_SOUND = 0.13, 0.03
"""What a hypothesis of tiny.en takes, and more for each second that it is of."""


class SleepingEngine:
    """Says two words for each second."""

    info = EngineInfo("fake", "sleeping", "cpu", "int8")
    languages = frozenset({"en"})
    translates = takes_hotwords = False

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        return [self._hypothesis(len(utterance.samples) / SAMPLE_RATE) for utterance in utterances]

    @staticmethod
    def _hypothesis(seconds: float) -> Hypothesis:
        time.sleep(DECODE_SECONDS + DECODE_SECONDS_OF_SOUND * seconds)
        words = tuple(Word(f"word{i}", i / 2, (i + 1) / 2, 0.9) for i in range(int(2 * seconds)))
        return Hypothesis("en", (Phrase(0.0, seconds, " ".join(word.text for word in words), words, 0.9),))


def main(port: int, sessions: int) -> None:
    settings = get_settings()

    def load(settings: Settings) -> Stages:
        recognizer = InProcessRecognizer(SleepingEngine(), EnginePool(sessions), sessions=sessions)
        return Stages(InProcessVad(load_voice_detection(settings)), recognizer)

    app = create_app(settings, load=load)
    listening = listen(HOST, port, settings.stall_seconds)
    uvicorn.Server(configuration(app, settings)).run(sockets=[listening])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
