"""What metrics and traces cost: the same recording through the whole pipeline, without them and with them.

``python -m benchmarks.system.telemetry nothing|metrics|traces RECORDING`` is one run, in a process of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram
from rich.table import Table

from benchmarks.recordings import build
from benchmarks.stack import running_parts
from benchmarks.system.overhead import STEP_MODULES
from cli.stack.stack import SERVERS
from db.models import Job, JobStatus
from db.objects.storage import job_prefix
from db.settings import get_settings
from db.telemetry import tracing
from db.telemetry.process import flush_traces, start_telemetry
from tasks.runtime import Runtime
from tasks.step import run
from tests.jobs import make_job
from tests.telemetry.receiver import receiving

MODES = ("nothing", "metrics", "traces")
ROUNDS = 3


def measure(minutes: float, speech: Path) -> Table:
    table = Table(title=f"{minutes:g} minutes of speech, all steps with real engines, {ROUNDS} runs each in turn")
    for heading in ("", "processor time", "wall", "more processor time"):
        table.add_column(heading)
    figures: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as name, receiving() as receiver:
        folder = Path(name)
        recording = build(folder / "recording.flac", minutes, speech).path
        with running_parts(folder / "stack", tuple(SERVERS)) as started:
            environment = {
                **os.environ,
                **started.environment,
                "LONGHAND_DRAFT_THREADS": "1",
                "LONGHAND_REFINE_THREADS": "1",
            }
            for _ in range(ROUNDS):
                for mode in MODES:
                    traced = {"LONGHAND_OTLP_ENDPOINT": receiver.url} if mode == "traces" else {}
                    command = [sys.executable, "-m", __name__, mode, str(recording)]
                    done = subprocess.run(command, env=environment | traced, stdout=subprocess.PIPE, check=True)
                    figures[mode].append(json.loads(done.stdout.splitlines()[-1]))
        spans = len(receiver.spans) // ROUNDS
    medians = {
        mode: {name: statistics.median(each[name] for each in runs) for name in ("cpu", "wall")}
        for mode, runs in figures.items()
    }
    for mode, figure in medians.items():
        more = figure["cpu"] / medians["nothing"]["cpu"] - 1
        table.add_row(mode, f"{figure['cpu']:.1f} s", f"{figure['wall']:.1f} s", f"{more:+.1%}")
    table.caption = f"{figures['traces'][0]['steps']:.0f} steps and {spans} spans a run"
    return table


def one_run(mode: str, recording: Path) -> dict[str, float]:
    """Seconds of the processor and of the clock, and how many steps there were."""
    settings = get_settings()
    if mode == "nothing":
        _forget_metrics()
    start_telemetry("bench", settings)
    runtime = Runtime(settings)
    runtime.engines.drafter()
    runtime.engines.refiner()
    runtime.engines.diarizer()
    began, busy = time.monotonic(), time.process_time()
    with tracing.tracer.start_as_current_span("POST /v1/jobs", kind=SpanKind.SERVER):
        job_id = make_job(runtime.sessions, language="en", diarize=True)
    runtime.storage.put(f"{job_prefix(job_id)}source", recording.read_bytes(), "audio/flac")
    steps, idle = 0, False
    while not idle:
        idle = True
        for module in STEP_MODULES:
            while claimed := run(module.handler, runtime):
                steps, idle = steps + len(claimed), False
    flush_traces()
    figures = {"cpu": time.process_time() - busy, "wall": time.monotonic() - began, "steps": steps}
    with runtime.sessions() as session:
        if session.get_one(Job, job_id).status != JobStatus.COMPLETED:
            raise RuntimeError("the job was not completed")
    return figures


def _forget_metrics() -> None:
    """As if there were none: what they are told is not kept."""
    for kind, methods in ((Counter, ("inc",)), (Gauge, ("inc", "dec", "set")), (Histogram, ("observe",))):
        kind.labels = lambda self, *_: self  # type: ignore[method-assign]
        for method in methods:
            setattr(kind, method, lambda *_: None)


if __name__ == "__main__":
    print(json.dumps(one_run(sys.argv[1], Path(sys.argv[2]))))
