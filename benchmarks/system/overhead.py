"""A recording through the whole pipeline, with engines that cost nothing and with real ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table
from sqlalchemy import event

from benchmarks.recordings import build
from db.models import Job, JobStatus
from db.objects.storage import Storage, job_prefix
from db.session import Sessions
from db.settings import Settings
from speech.engines import SAMPLE_RATE, EngineInfo, Transcriber, Utterance
from speech.load import SelectedEngine
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Phrase, Word
from tasks.engines import ANY, Engines, Wanted
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import align, diarize, draft, embed, finalize, ingest, refine
from tests.jobs import make_job

STEP_MODULES = (ingest, draft, refine, diarize, embed, align, finalize)


class InstantEngine:
    """Returns the same words for everything, at once."""

    info = EngineInfo("instant", "none", "cpu", "none")
    languages = LANGUAGES
    translates = takes_hotwords = False

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        return [_sentence(len(utterance.samples) / SAMPLE_RATE) for utterance in utterances]


def _sentence(seconds: float) -> Hypothesis:
    count = max(1, int(2.5 * seconds))
    words = tuple(Word(f"word{n}", 0.4 * n, 0.4 * n + 0.3, 0.9) for n in range(count))
    phrase = Phrase(0.0, words[-1].end, " ".join(word.text for word in words), words, 0.9)
    return Hypothesis("en", (phrase,), {})


class TimedEngines(Engines):
    """Real or instant engines, with the time that each computes."""

    def __init__(self, runtime: Runtime, *, instant: bool) -> None:
        super().__init__(runtime.settings, lambda: runtime.version_cache)
        self.instant = instant
        self.engine_seconds: Counter[str] = Counter()

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.engine_seconds[name] += time.perf_counter() - started  # type: ignore[assignment]

        return timed

    def drafter(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        return self._timed_serving("draft", InstantEngine() if self.instant else super().drafter(wanted).engine)

    def refiner(self, wanted: Wanted = ANY) -> SelectedEngine[Transcriber]:
        return self._timed_serving("refine", InstantEngine() if self.instant else super().refiner(wanted).engine)

    def _timed_serving(self, name: str, engine: Transcriber) -> SelectedEngine[Any]:
        class TimedEngine:
            transcribe = staticmethod(self._timed(name, engine.transcribe))

            def __getattr__(self, attribute: str) -> Any:
                return getattr(engine, attribute)

        return SelectedEngine(TimedEngine(), engine.info)


@contextmanager
def _count_statements(sessions: Sessions, counts: Counter[str], name: Callable[[], str]) -> Iterator[None]:
    def count(*_: object) -> None:
        counts[name()] += 1

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def overhead(settings: Settings, minutes: float, speech: Path, folder: Path) -> Table:
    recording = build(folder / "recording.flac", minutes, speech)
    table = Table(title=f"{minutes:g} minutes, one step after another, engines of no cost and real ones")
    for heading in ("kind", "steps", "statements a step", "machinery", "with engines"):
        table.add_column(heading)
    seconds, statements, step_counts = _run_job(settings, recording.path, instant=True)
    real_seconds, _, _ = _run_job(settings, recording.path, instant=False)
    for kind in step_counts:
        per_step = statements[kind] / step_counts[kind]
        table.add_row(
            kind,
            str(step_counts[kind]),
            f"{per_step:.1f}",
            f"{seconds[kind]:.2f} s",
            f"{real_seconds[kind]:.1f} s",
        )
    # ingest, diarize and embed compute in models in either run: their time counts as the engines'
    machinery_seconds = sum(seconds[kind] for kind in ("draft", "refine", "align", "finalize"))
    engine_seconds = sum(real_seconds.values()) - machinery_seconds
    table.caption = (
        f"outside the engines {machinery_seconds:.1f} s, "
        f"{machinery_seconds / engine_seconds:.1%} of their {engine_seconds:.0f} s; "
        f"a chunk takes {sum(statements.values()) / step_counts['draft']:.0f} statements and "
        f"{_count_hints(settings) / step_counts['draft']:.0f} hints"
    )
    return table


def _count_hints(settings: Settings) -> int:
    runtime = Runtime(settings)
    return sum(runtime.bus.count_hints(queue) for queue in ("cpu", "gpu", "io")) // 2


def _run_job(
    settings: Settings, recording: Path, *, instant: bool
) -> tuple[dict[str, float], Counter[str], Counter[str]]:
    runtime = Runtime(settings)
    runtime.engines = TimedEngines(runtime, instant=instant)
    job_id = make_job(runtime.sessions, language="en", diarize=True)
    Storage(settings).put(f"{job_prefix(job_id)}source", recording.read_bytes(), "audio/flac")
    seconds: dict[str, float] = {}
    statements: Counter[str] = Counter()
    step_counts: Counter[str] = Counter()
    current = ""
    with _count_statements(runtime.sessions, statements, lambda: current):
        idle = False
        while not idle:
            idle = True
            for module in STEP_MODULES:
                current = str(module.handler.kind)
                started = time.perf_counter()
                while claimed := run(module.handler, runtime):
                    step_counts[current] += len(claimed)
                    idle = False
                seconds[current] = seconds.get(current, 0.0) + time.perf_counter() - started
    with runtime.sessions() as session:
        if session.get_one(Job, job_id).status != JobStatus.COMPLETED:
            raise RuntimeError("the job was not completed")
    return seconds, statements, step_counts
