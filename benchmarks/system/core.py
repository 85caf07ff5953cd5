"""The machinery by itself: what a step costs, how claiming grows, what an hour spends outside the engines."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Group
from rich.table import Table
from sqlalchemy import event, text

from benchmarks.recordings import build
from benchmarks.stack import running_parts, settings_of
from db.models import Job, JobStatus, StepKind
from db.queue import leases
from db.queue.transaction import job_transaction
from db.session import Sessions, make_sessions
from db.settings import Settings
from db.storage import Storage, job_prefix
from speech.engines import SAMPLE_RATE, EngineInfo, Transcriber, Utterance
from speech.load import Serving
from speech.text.languages import LANGUAGES
from speech.text.words import Hypothesis, Phrase, Word
from tasks.queue import app
from tasks.runtime import Runtime
from tasks.step import Handler, run
from tasks.steps import align, diarize, draft, embed, finalize, ingest, refine
from tests.jobs import make_job

STEPS = 4000
HANDLERS = (ingest, draft, refine, diarize, embed, align, finalize)


def measure(minutes: float, speech: Path) -> Group:
    with (
        TemporaryDirectory() as folder,
        running_parts(Path(folder) / "stack", ("postgres", "redis", "s3")) as started,
    ):
        settings = settings_of(started)
        app.conf.update(broker_url=settings.redis_url)
        return Group(_throughput(settings), *_growth(settings), _overhead(settings, minutes, speech, Path(folder)))


# steps that do nothing


def _throughput(settings: Settings) -> Table:
    table = Table(title=f"{STEPS} steps without work, claimed and committed one by one, from 20 jobs")
    for heading in ("worker processes", "steps a second"):
        table.add_column(heading)
    sessions = make_sessions(settings, name="bench")
    for workers in (1, 2, 4):
        for _ in range(20):
            _job(sessions, STEPS // 20)
        processes = [multiprocessing.Process(target=_work_off, args=(settings,)) for _ in range(workers)]
        begun = time.monotonic()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        table.add_row(str(workers), f"{STEPS / (time.monotonic() - begun):.0f}")
    return table


NOTHING = Handler(
    StepKind.PURGE, lambda claims, work: [None] * len(claims), lambda tx, claim, output: None, deadline=60
)


def _work_off(settings: Settings) -> None:
    runtime = Runtime(settings)
    while run(NOTHING, runtime):
        pass


def _job(sessions: Sessions, count: int) -> uuid.UUID:
    job_id = make_job(sessions)
    with job_transaction(sessions, job_id) as transaction:
        transaction.skip_open_steps()
        for chunk in range(count):
            transaction.enqueue(StepKind.PURGE, chunk)
    return job_id


def _growth(settings: Settings) -> list[Any]:
    """A claim among more and more rows that are done."""
    table = Table(title="one claim of 4 steps, 100 jobs waiting")
    for heading in ("rows in steps", "milliseconds", "sequential scans of steps"):
        table.add_column(heading)
    sessions = make_sessions(settings, name="bench")
    made = [_job(sessions, 20) for _ in range(100)]
    plan: list[str] = []
    rows = 0
    for target in (1_000, 10_000, 100_000, 1_000_000):
        with sessions.begin() as session:
            session.execute(
                text(
                    "INSERT INTO steps (job_id, kind, chunk, state, finished_at) "
                    "SELECT :job, 'draft', n, 'done', now() "
                    "FROM generate_series(CAST(:low AS int), CAST(:high AS int)) n"
                ),
                {"job": made[0], "low": rows + 1, "high": target},
            )
        rows = target
        with sessions() as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            session.execute(text("ANALYZE steps"))
        spent = []
        for _ in range(20):
            begun = time.perf_counter()
            claimed = leases.claim(sessions, StepKind.PURGE, 4, "bench", settings)
            spent.append(time.perf_counter() - begun)
            for claim in claimed:
                with job_transaction(sessions, claim.job_id) as transaction:
                    leases.requeue(transaction.session, claim, "again")
        with sessions() as session:
            explained = session.scalars(
                text(f"EXPLAIN {leases.CLAIMABLE.text}"), leases.claimable(StepKind.PURGE, 4, settings)
            )
            plan = [line for line in explained if "on steps" in line]
        scans = sum("Seq Scan" in line for line in plan)
        table.add_row(f"{target:,}", f"{1000 * sorted(spent)[len(spent) // 2]:.1f}", str(scans))
    return [table, "How a claim finds its steps among a million:", *sorted({line.strip(" ->") for line in plan})]


# an hour through the whole pipeline, with engines that cost nothing


class Instant:
    """An engine that hears the same sentence everywhere, at once."""

    info = EngineInfo("instant", "none", "cpu", "none")
    languages = LANGUAGES

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        return [_sentence(len(utterance.samples) / SAMPLE_RATE) for utterance in utterances]


def _sentence(seconds: float) -> Hypothesis:
    count = max(1, int(2.5 * seconds))
    words = tuple(Word(f"word{n}", 0.4 * n, 0.4 * n + 0.3, 0.9) for n in range(count))
    phrase = Phrase(0.0, words[-1].end, " ".join(word.text for word in words), words, 0.9)
    return Hypothesis("en", (phrase,), {})


class Clocked(Runtime):
    """Real engines or instant ones, and a clock that runs while any of them computes."""

    def __init__(self, settings: Settings, *, instant: bool) -> None:
        super().__init__(settings)
        self.instant = instant
        self.engines: Counter[str] = Counter()

    def _clocked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.engines[name] += time.perf_counter() - begun  # type: ignore[assignment]

        return timed

    def drafter(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        return self._serving("draft", Instant() if self.instant else super().drafter(engine, language).engine)

    def refiner(self, engine: str | None = None, language: str | None = None) -> Serving[Transcriber]:
        return self._serving("refine", Instant() if self.instant else super().refiner(engine, language).engine)

    def _serving(self, name: str, engine: Any) -> Serving[Any]:
        class Timed:
            info = engine.info
            languages = engine.languages
            transcribe = staticmethod(self._clocked(name, engine.transcribe))

        return Serving(Timed(), engine.info)


@contextmanager
def _statements(sessions: Sessions, counted: Counter[str], name: Callable[[], str]) -> Iterator[None]:
    def count(*_: object) -> None:
        counted[name()] += 1

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def _overhead(settings: Settings, minutes: float, speech: Path, folder: Path) -> Table:
    recording = build(folder / "recording.flac", minutes, speech)
    table = Table(title=f"{minutes:g} minutes, one step after another, engines of no cost and real ones")
    for heading in ("kind", "steps", "statements a step", "machinery", "with engines"):
        table.add_column(heading)
    spent, statements, done = _through(settings, recording.path, instant=True)
    real, _, _ = _through(settings, recording.path, instant=False)
    for kind in done:
        each = statements[kind] / done[kind]
        table.add_row(kind, str(done[kind]), f"{each:.1f}", f"{spent[kind]:.2f} s", f"{real[kind]:.1f} s")
    # cutting, listening and clustering are engines' work in either run
    machinery = sum(spent[kind] for kind in ("draft", "refine", "align", "finalize"))
    engines = sum(real.values()) - machinery
    table.caption = (
        f"outside the engines {machinery:.1f} s, {machinery / engines:.1%} of their {engines:.0f} s; "
        f"a chunk takes {sum(statements.values()) / done['draft']:.0f} statements and "
        f"{_messages(settings) / done['draft']:.0f} hints"
    )
    return table


def _messages(settings: Settings) -> int:
    runtime = Runtime(settings)
    return sum(runtime.bus.hints(queue) for queue in ("cpu", "gpu", "io")) // 2


def _through(
    settings: Settings, recording: Path, *, instant: bool
) -> tuple[dict[str, float], Counter[str], Counter[str]]:
    runtime = Clocked(settings, instant=instant)
    job_id = make_job(runtime.sessions, language="en", diarize=True)
    Storage(settings).put(f"{job_prefix(job_id)}source", recording.read_bytes(), "audio/flac")
    spent: dict[str, float] = {}
    statements: Counter[str] = Counter()
    done: Counter[str] = Counter()
    current = ""
    with _statements(runtime.sessions, statements, lambda: current):
        idle = False
        while not idle:
            idle = True
            for module in HANDLERS:
                current = str(module.handler.kind)
                begun = time.perf_counter()
                while claimed := run(module.handler, runtime):
                    done[current] += claimed
                    idle = False
                spent[current] = spent.get(current, 0.0) + time.perf_counter() - begun
    with runtime.sessions() as session:
        if session.get_one(Job, job_id).status != JobStatus.COMPLETED:
            raise RuntimeError("the job was not completed")
    return spent, statements, done
