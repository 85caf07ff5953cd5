"""``python -m benchmarks [--only NAME …]``: run measurements, print a table each."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group, RenderableType

from benchmarks.live import crowd, latency
from benchmarks.recordings import SPEECH_FOLDER
from benchmarks.speech import (
    accuracy,
    borrowed_times,
    decoding,
    diarization,
    engines,
    loaded,
    policy,
    voices,
    word_times,
)
from benchmarks.system import (
    callers,
    core,
    export,
    keys,
    memory,
    nonspeech,
    pipelining,
    remote,
    short,
    streams,
    telemetry,
    throughput,
)

NAMES = (
    "throughput",
    "accuracy",
    "nonspeech",
    "short",
    "uploads",
    "workers",
    "decoding",
    "engines",
    "loaded",
    "voices",
    "times",
    "diarization",
    "policy",
    "pipelining",
    "streams",
    "keys",
    "core",
    "export",
    "http",
    "telemetry",
    "live",
    "crowd",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=10, help="length of the recording")
    parser.add_argument("--long", type=float, default=60, help="length of the long recording")
    parser.add_argument("--live", type=float, default=2, help="minutes of speech played into live sessions")
    parser.add_argument("--rest", type=float, default=0, help="minutes of silence after every ten of speech")
    parser.add_argument(
        "--speech", type=Path, default=SPEECH_FOLDER, help="folder of recordings with a manifest.jsonl"
    )
    arguments = parser.parse_args()
    measurements: dict[str, Callable[[], RenderableType]] = {
        "throughput": lambda: throughput.measure(arguments.minutes, arguments.speech),
        "accuracy": lambda: accuracy.measure(arguments.speech),
        "nonspeech": lambda: nonspeech.measure(arguments.minutes, arguments.speech),
        "short": lambda: Group(short.measure(arguments.speech), callers.measure(arguments.speech)),
        "uploads": lambda: memory.uploads(),
        "workers": lambda: memory.workers((arguments.minutes, arguments.long), arguments.speech, arguments.rest),
        "decoding": lambda: decoding.measure(arguments.minutes, arguments.speech),
        "engines": lambda: engines.measure(arguments.minutes, arguments.speech),
        "loaded": lambda: loaded.measure(arguments.speech),
        "voices": lambda: voices.measure(arguments.speech),
        "times": lambda: Group(word_times.measure(arguments.speech), borrowed_times.measure(arguments.speech)),
        "diarization": lambda: diarization.measure(arguments.speech),
        "policy": lambda: policy.measure(arguments.minutes, arguments.speech),
        "pipelining": lambda: pipelining.measure(arguments.minutes, arguments.speech),
        "streams": streams.measure,
        "keys": keys.measure,
        "http": lambda: remote.measure(arguments.minutes, arguments.speech),
        "telemetry": lambda: telemetry.measure(arguments.speech),
        "export": lambda: export.measure(arguments.speech),
        "live": lambda: latency.measure(arguments.speech, arguments.live),
        "crowd": lambda: crowd.measure(arguments.speech),
        "core": lambda: core.measure(arguments.long, arguments.speech),
    }
    console = Console(width=110)
    for name in arguments.only or measurements:
        console.print(measurements[name]())


if __name__ == "__main__":
    main()
