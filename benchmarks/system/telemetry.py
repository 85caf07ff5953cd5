"""What metrics and traces cost a chunk, beside what its engines cost, in seconds of the processor.

``python -m benchmarks.system.telemetry nothing|metrics|traces|engines RECORDING`` is one run, in a process of
its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import prometheus_client
from opentelemetry.trace import SpanKind
from rich.table import Table

from benchmarks.recordings import build
from benchmarks.stack import running_parts
from benchmarks.system.overhead import TimedEngines
from cli.stack.stack import SERVERS
from db.models import Job, JobStatus
from db.queue.transaction import job_transaction
from db.settings import get_settings
from db.telemetry import tracing
from db.telemetry.process import flush_traces, start_telemetry
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Utterance
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import align, draft, finalize, refine
from tests.jobs import add_chunks, make_job
from tests.telemetry.receiver import receiving

MODES = ("nothing", "metrics", "traces")
ROUNDS = 3
CHUNKS = 100
"""So many that what a process does once, as opening connections and loading codecs, is spread thin."""
CHUNK_SECONDS = 10
STEP_MODULES = (draft, refine, align, finalize)


def measure(speech: Path) -> Table:
    table = Table(title=f"A chunk of {CHUNK_SECONDS} s from draft to final: processor time outside the engines")
    for heading in ("", "spans a chunk", "a chunk", "more than without", "part of what its engines take"):
        table.add_column(heading)
    figures: dict[str, list[float]] = {mode: [] for mode in MODES}
    spans: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, receiving() as receiver:
        folder = Path(name)
        recording = build(folder / "recording.flac", 1, speech).path
        with running_parts(folder / "stack", tuple(SERVERS)) as started:

            def seconds(mode: str) -> float:
                traced = {"LONGHAND_OTLP_ENDPOINT": receiver.url} if mode == "traces" else {}
                command = [sys.executable, "-m", __name__, mode, str(recording)]
                environment = {**os.environ, **started.environment, **traced}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
                return float(json.loads(done.stdout.splitlines()[-1]))

            cost = seconds("engines")
            for _ in range(ROUNDS):
                for mode in MODES:
                    before = len(receiver.spans)
                    figures[mode].append(seconds(mode))
                    spans[mode] += len(receiver.spans) - before
    medians = {mode: statistics.median(runs) for mode, runs in figures.items()}
    for mode, figure in medians.items():
        more = figure - medians["nothing"]
        table.add_row(
            mode,
            f"{spans[mode] / (ROUNDS * CHUNKS):.0f}",
            f"{1000 * figure:.1f} ms",
            f"{1000 * more:+.1f} ms",
            f"{more / cost:+.2%}",
        )
    table.caption = f"its engines take {1000 * cost:.0f} ms a chunk; medians of {ROUNDS} runs in turn"
    return table


def machinery(mode: str) -> float:
    """Seconds of the processor that a chunk takes, with engines that cost nothing."""
    if mode == "nothing":
        _forget_metrics()
    settings = get_settings()
    start_telemetry("bench", settings)
    runtime = Runtime(settings)
    runtime.engines = TimedEngines(runtime, instant=True)
    sound = flac.encode(np.zeros(CHUNK_SECONDS * SAMPLE_RATE, np.float32))
    for index in range(CHUNKS):
        runtime.storage.put(f"c{index}", sound, "audio/flac")
    with tracing.tracer.start_as_current_span("POST /v1/jobs", kind=SpanKind.SERVER):
        job_id = make_job(runtime.sessions, language="en")
    with job_transaction(runtime.sessions, job_id) as transaction:
        transaction.skip_open_steps()
        transaction.job.status, transaction.job.duration = JobStatus.PROCESSING, float(CHUNKS * CHUNK_SECONDS)
    add_chunks(runtime.sessions, job_id, CHUNKS)
    began = time.process_time()
    for module in STEP_MODULES:
        while run(module.handler, runtime):
            pass
    flush_traces()
    seconds = time.process_time() - began
    with runtime.sessions() as session:
        if session.get_one(Job, job_id).status != JobStatus.COMPLETED:
            raise RuntimeError("the job was not completed")
    return seconds / CHUNKS


def engines(recording: Path) -> float:
    """Seconds of the processor that drafting and refining a chunk of speech takes."""
    runtime = Runtime(get_settings())
    samples = flac.decode(recording.read_bytes())
    size = CHUNK_SECONDS * SAMPLE_RATE
    chunks = [Utterance(samples[at : at + size], language="en") for at in range(0, len(samples) - size, size)]
    transcribers = [runtime.engines.drafter().engine, runtime.engines.refiner().engine]
    began = time.process_time()
    for transcriber in transcribers:
        transcriber.transcribe(chunks)
    return (time.process_time() - began) / len(chunks)


def _forget_metrics() -> None:
    """As if there were none: what they are told is not kept."""
    for kind, methods in (
        (prometheus_client.Counter, ("inc",)),
        (prometheus_client.Gauge, ("inc", "dec", "set")),
        (prometheus_client.Histogram, ("observe",)),
    ):
        kind.labels = lambda self, *_: self  # type: ignore[method-assign]
        for method in methods:
            setattr(kind, method, lambda *_: None)


if __name__ == "__main__":
    mode, recording = sys.argv[1:]
    print(json.dumps(engines(Path(recording)) if mode == "engines" else machinery(mode)))
