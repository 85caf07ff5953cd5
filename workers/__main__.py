"""``python -m workers cpu|gpu|io|beat|flower`` runs one process."""

from __future__ import annotations

import logging
import sys
import warnings

from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutting_down

from db.exposure import Exposed
from db.private_files import keep_files_private, make_private_folder
from db.settings import get_settings
from db.telemetry.exposition import serve_metrics
from db.telemetry.gpu import GpuCollector
from db.telemetry.process import TracesUnavailable, start_telemetry
from speech.engines import EngineUnavailable
from tasks.queue import app
from tasks.runtime import get_runtime
from tasks.slots import concurrency_of, tell_of_slots
from workers.flower import close_metrics, flower_argv
from workers.shutdown import drain, shut_down
from workers.warmup import warm_up
from workers.watchdog import Watchdog

# Celery warns against running as root because of pickle. Messages here are JSON, and containers may run as root.
warnings.filterwarnings("ignore", category=SecurityWarning)

SPARE_THREADS = 3
"""That find all slots taken and say so, whatever runs: else nobody hears of kinds that share slots."""


@setup_logging.connect
def _logging(**_: object) -> None:
    """What ``start_telemetry`` has set up stays."""
    # no log line for each hint: steps log what matters
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)


def worker_argv(queue: str) -> list[str]:
    return [
        "worker",
        f"--queues={queue}",
        f"--hostname={queue}@%h",
        # threads, not child processes: engines are loaded once and release the GIL while they compute.
        # As many as slots, so that no step waits behind steps of another kind, and some to hear more hints
        "--pool=threads",
        f"--concurrency={concurrency_of(queue) + SPARE_THREADS}",
        "--without-mingle",
        "--without-gossip",
    ]


def beat_argv() -> list[str]:
    schedule = get_settings().data_dir / "beat"
    make_private_folder(schedule)
    return ["beat", f"--schedule={schedule / 'schedule'}", "--pidfile="]


def main(argv: list[str]) -> int:
    keep_files_private()
    try:
        start_telemetry(argv[0] if argv else "", get_settings())
    except TracesUnavailable as error:
        raise SystemExit(str(error)) from None
    match argv:
        case [("cpu" | "gpu" | "io") as queue]:

            @worker_init.connect(weak=False)
            def _warm_up(**_: object) -> None:
                get_runtime().shut_down = shut_down
                try:
                    warm_up(queue)
                    serve_metrics(get_settings(), *([GpuCollector()] if queue == "gpu" else []))
                except (EngineUnavailable, Exposed, OSError) as error:
                    raise SystemExit(f"The {queue} worker cannot start: {error}") from error

            @worker_ready.connect(weak=False)
            def _watch(**_: object) -> None:
                tell_of_slots(queue)
                Watchdog(get_runtime(), queue).start()

            @worker_shutting_down.connect(weak=False)
            def _drain(**_: object) -> None:
                drain(get_runtime())

            app.worker_main(worker_argv(queue))
        case ["beat"]:
            app.start(beat_argv())
        case ["flower"]:
            try:
                arguments = flower_argv(get_settings())
            except Exposed as error:
                print(error, file=sys.stderr)  # noqa: T201
                return 1
            close_metrics()
            app.start(arguments)
        case _:
            print("usage: python -m workers cpu|gpu|io|beat|flower", file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
