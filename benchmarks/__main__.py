"""``python -m benchmarks [--only NAME …]``: run measurements, print a table each."""

from __future__ import annotations

import argparse
import json
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
    meaning,
    names,
    policy,
    tuned,
    voices,
    word_times,
)
from benchmarks.system import (
    callers,
    core,
    export,
    fleet,
    footprint,
    fortnight,
    keys,
    memory,
    nonspeech,
    pipelining,
    remote,
    search,
    short,
    streams,
    telemetry,
    throughput,
)
from benchmarks.system.queue import measure as queue

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
    "names",
    "voices",
    "times",
    "diarization",
    "policy",
    "pipelining",
    "streams",
    "keys",
    "core",
    "queue",
    "fleet",
    "footprint",
    "export",
    "http",
    "telemetry",
    "search",
    "meaning",
    "live",
    "crowd",
    "tuned",
    "fortnight",
)

KEPT_FOLDER = Path("benchmarks/results/tuning")
LONG = ("tuned", "fortnight", "meaning")
"""Those that take hours, or speech that is not in the repository: they run where they are asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=10, help="length of the recording")
    parser.add_argument("--long", type=float, default=60, help="length of the long recording")
    parser.add_argument("--live", type=float, default=2, help="minutes of speech played into live sessions")
    parser.add_argument("--hours", type=float, default=10_000, help="of transcripts that are searched")
    parser.add_argument(
        "--keep", type=Path, default=search.FOLDER, help="folder of databases that are filled once"
    )
    parser.add_argument("--rest", type=float, default=0, help="minutes of silence after every ten of speech")
    parser.add_argument(
        "--speech", type=Path, default=SPEECH_FOLDER, help="folder of recordings with a manifest.jsonl"
    )
    parser.add_argument("--beside", help="commit whose queue is measured on the same data")
    parser.add_argument("--jobs", type=int, default=100_000, help="active jobs of the large queue")
    parser.add_argument("--steps", type=int, default=10_000_000, help="steps of the large queue")
    parser.add_argument("--tenants", type=int, default=50, help="of the large queue")
    parser.add_argument("--workers", type=int, default=500, help="that have nothing to do")
    parser.add_argument("--roles", nargs="+", choices=tuned.ROLES, default=list(tuned.ROLES))
    parser.add_argument("--tuning", nargs="*", default=[], metavar="NAME=NUMBER", help="options of the tuning")
    parser.add_argument(
        "--kept", type=Path, default=KEPT_FOLDER, help="folder in which a long measurement goes on where it was"
    )
    parser.add_argument("--days", type=int, default=fortnight.DAYS, help="of the fortnight")
    parser.add_argument("--corrupt", action="store_true", help="people correct badly, in tuned and fortnight")
    arguments = parser.parse_args()
    options = {name: json.loads(value) for name, _, value in (each.partition("=") for each in arguments.tuning)}
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
        "names": lambda: names.measure(arguments.speech),
        "voices": lambda: voices.measure(arguments.speech),
        "times": lambda: Group(word_times.measure(arguments.speech), borrowed_times.measure(arguments.speech)),
        "diarization": lambda: diarization.measure(arguments.speech),
        "policy": lambda: policy.measure(arguments.minutes, arguments.speech),
        "pipelining": lambda: pipelining.measure(arguments.minutes, arguments.speech),
        "streams": streams.measure,
        "keys": keys.measure,
        "http": lambda: remote.measure(arguments.minutes, arguments.speech),
        "search": lambda: search.measure(arguments.hours, arguments.keep),
        "meaning": lambda: meaning.measure(arguments.speech),
        "telemetry": lambda: telemetry.measure(arguments.speech),
        "export": lambda: export.measure(arguments.speech),
        "live": lambda: latency.measure(arguments.speech, arguments.live),
        "crowd": lambda: crowd.measure(arguments.speech),
        "tuned": lambda: tuned.measure(
            arguments.speech,
            arguments.roles,
            arguments.minutes,
            options,
            arguments.kept,
            corrupt=arguments.corrupt,
        ),
        "fortnight": lambda: fortnight.measure(
            arguments.speech,
            arguments.days,
            arguments.roles,
            options,
            arguments.kept,
            corrupt=arguments.corrupt,
        ),
        "core": lambda: core.measure(arguments.long, arguments.speech),
        "queue": lambda: queue.measure(
            arguments.beside, arguments.jobs, arguments.steps, arguments.tenants, arguments.speech
        ),
        "fleet": lambda: fleet.measure(arguments.workers, 60, arguments.speech),
        "footprint": lambda: footprint.measure(arguments.minutes, arguments.speech),
    }
    console = Console(width=110)
    for name in arguments.only or [name for name in measurements if name not in LONG]:
        console.print(measurements[name]())


if __name__ == "__main__":
    main()
