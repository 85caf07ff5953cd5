"""A day of recordings through the real queue, at accelerated time: ``python -m benchmarks.system.day --help``.

Jobs, steps, claims and commits are the real ones, on a Postgres of their own; the work is made up, and is a pause.
So the order in which recordings are served, and what each waits for the others, are those of a fleet.
"""

from __future__ import annotations

import argparse
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import event, func, text

from benchmarks.stack import running_parts, settings_of
from benchmarks.system.arrivals import LONG_SECONDS, Arrival, make_day
from db.models import JobStatus, StepKind
from db.prepare import prepare
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction, job_transaction
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.step import run
from tests.jobs import make_job

CHUNK_SECONDS = 30.0
STEPS_AT_ONCE = 400
"""Steps that are made ready in one transaction, as an ingest makes them one after the other."""
IDLE_SECONDS = 0.005
"""Between two looks of all workers that find nothing, together."""
KIND = StepKind.REFINE
"""The step that takes the time; those before and behind it wait for nobody."""


PACE = """
    CREATE OR REPLACE FUNCTION lane_pace(priority priority) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
        SELECT interval '30 seconds' / {speed} / CASE priority WHEN 'high' THEN 4 WHEN 'normal' THEN 2 ELSE 1 END
    $$
"""
"""What waiting makes up for in the order of claims, in the day's time."""


@dataclass(slots=True)
class Course:
    """What became of a recording; moments in seconds of the day."""

    arrival: Arrival
    left: int
    begun: float | None = None
    ended: float | None = None


@dataclass(slots=True)
class Day:
    """A day under way."""

    begins: float
    """In seconds after midnight."""
    speed: float
    seconds_per_second: float
    """Time that a worker takes for a second of sound."""
    courses: dict[uuid.UUID, Course] = field(default_factory=dict)
    busy: float = 0.0
    late: float = 0.0
    """How long after its time a recording came at most, as this machine is not quick enough for this speed."""
    statements: int = 0
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        return self.begins + (time.monotonic() - self.started) * self.speed

    def wait_until(self, moment: float) -> None:
        time.sleep(max(0.0, (moment - self.now()) / self.speed))

    def work(self, claimed: Sequence[Claim], work: Work) -> list[None]:
        began = self.now()
        seconds = 0.0
        for claim in claimed:
            course = self.courses[claim.job_id]
            course.begun = began if course.begun is None else course.begun
            seconds += min(CHUNK_SECONDS, course.arrival.seconds - CHUNK_SECONDS * claim.chunk_index)
        with self.lock:
            self.busy += seconds * self.seconds_per_second
        self.wait_until(began + seconds * self.seconds_per_second)
        return [None] * len(claimed)

    def commit(self, tx: JobTransaction, claim: Claim, output: None) -> None:
        course = self.courses[claim.job_id]
        tx.job.final += 1
        if tx.job.final == tx.job.chunks:
            tx.job.status, tx.job.transcript_prefix = JobStatus.COMPLETED, "none"
            tx.job.completed_at = func.now()
            course.ended = self.now()
        course.left = tx.job.chunks - tx.job.final

    def send(self, sessions: Sessions, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self.wait_until(arrival.at)
            self.late = max(self.late, self.now() - arrival.at)
            chunks = -int(-arrival.seconds // CHUNK_SECONDS)
            job_id = uuid.uuid4()
            self.courses[job_id] = Course(arrival, chunks)
            make_job(sessions, id=job_id, tenant=arrival.tenant, priority=arrival.priority)
            for first in range(0, chunks, STEPS_AT_ONCE):
                with job_transaction(sessions, job_id) as tx:
                    if not first:
                        tx.skip_open_steps()
                        tx.job.status, tx.job.chunks, tx.job.duration = (
                            JobStatus.PROCESSING,
                            chunks,
                            arrival.seconds,
                        )
                    for chunk in range(first, min(first + STEPS_AT_ONCE, chunks)):
                        tx.enqueue(KIND, chunk)

    @property
    def waiting_hours(self) -> float:
        return sum(course.left for course in list(self.courses.values())) * CHUNK_SECONDS / 3600


def replay(settings: Settings, arrivals: Sequence[Arrival], day: Day, workers: int, batch: int) -> float:
    """Send all recordings, and work until all are done. Returns the most hours that ever waited."""
    handler = Handler(KIND, day.work, day.commit, deadline=3600, batch=lambda runtime: batch)
    stop = threading.Event()

    def serve() -> None:
        runtime = Runtime(settings)
        event.listen(runtime.sessions.kw["bind"], "before_cursor_execute", count)
        while not stop.is_set():
            if not run(handler, runtime):
                time.sleep(IDLE_SECONDS * workers)

    def count(*_: object) -> None:
        with day.lock:
            day.statements += 1

    sessions = make_sessions(settings, name="day")
    with sessions.begin() as session:
        session.execute(text(PACE.format(speed=day.speed)))
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(workers)]
    sender = threading.Thread(target=day.send, args=(sessions, arrivals), daemon=True)
    day.started = time.monotonic()
    for thread in (*threads, sender):
        thread.start()
    most = 0.0
    while sender.is_alive() or any(course.ended is None for course in list(day.courses.values())):
        most = max(most, day.waiting_hours)
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    return most


def show(courses: Sequence[Course]) -> Table:
    table = Table()
    for heading in (
        *("recordings", "number", "hours", "begun after: median", "95 %", "longest"),
        *("ended after: median", "95 %", "in lengths of the recording: 95 %"),
    ):
        table.add_column(heading)
    groups: Mapping[str, Callable[[Course], str]] = {
        "all": lambda course: "all",
        "priority": lambda course: course.arrival.priority.value,
        "tenant": lambda course: course.arrival.tenant,
        "length": lambda course: _length_class(course.arrival.seconds),
    }
    for name in groups.values():
        for group in Counter(map(name, courses)):
            table.add_row(*_row(group, [course for course in courses if name(course) == group]))
        table.add_section()
    return table


def _length_class(seconds: float) -> str:
    if seconds >= LONG_SECONDS:
        return "ten hours"
    return "under five minutes" if seconds < 300 else "others"


def _row(group: str, courses: Sequence[Course]) -> list[str]:
    begun = sorted((course.begun or 0.0) - course.arrival.at for course in courses)
    ended = sorted((course.ended or 0.0) - course.arrival.at for course in courses)
    lengths = sorted(((c.ended or 0.0) - c.arrival.at) / c.arrival.seconds for c in courses)
    hours = sum(course.arrival.seconds for course in courses) / 3600
    times = (_at(begun, 0.5), _at(begun, 0.95), begun[-1], _at(ended, 0.5), _at(ended, 0.95))
    return [group, str(len(courses)), f"{hours:.0f}", *map(_minutes, times), f"{_at(lengths, 0.95):.2f}"]


def _hours(arrivals: Sequence[Arrival]) -> float:
    return sum(arrival.seconds for arrival in arrivals) / 3600


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=300, help="of audio in the day")
    parser.add_argument("--speed", type=float, default=360, help="seconds of the day in a second")
    parser.add_argument("--begin", type=float, default=0, help="hour of the day from which recordings come")
    parser.add_argument("--end", type=float, default=24, help="hour of the day up to which they come")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--busy", type=float, default=0.5, help="part of the day that the workers are to work")
    parser.add_argument("--batch", type=int, default=8, help="chunks of one claim")
    parser.add_argument("--limit", type=int, help="steps that a tenant may have in work at once")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    whole_day = make_day(arguments.hours, arguments.seed)
    hours = _hours(whole_day)
    begin, end = 3600 * arguments.begin, 3600 * arguments.end
    arrivals = [arrival for arrival in whole_day if begin <= arrival.at < end]
    day = Day(begin, arguments.speed, arguments.busy * arguments.workers * 24 / hours)
    changes: dict[str, Any] = {"tenant_limits": {"*": arguments.limit}} if arguments.limit else {}
    with TemporaryDirectory() as folder, running_parts(Path(folder), ("postgres", "redis", "s3")) as started:
        settings = settings_of(started).model_copy(update=changes)
        prepare(settings)
        most = replay(settings, arrivals, day, arguments.workers, arguments.batch)
    table = show(list(day.courses.values()))
    took = (time.monotonic() - day.started) or 1.0
    chunks = sum(-int(-arrival.seconds // CHUNK_SECONDS) for arrival in arrivals)
    table.title = (
        f"{len(arrivals):,} recordings of {_hours(arrivals):,.0f} hours, which come from {arguments.begin:g} to "
        f"{arguments.end:g} of a day of {hours:,.0f} hours, {arguments.speed:g} times as fast as time"
    )
    busy, late = (
        day.busy / (arguments.workers * took * arguments.speed),
        arguments.begin + took * arguments.speed / 3600,
    )
    table.caption = (
        f"{arguments.workers} workers that take {day.seconds_per_second:.3f} s for a second of sound, busy "
        f"{busy:.0%} of the time; all was done at {late:.1f}; at most {most:.0f} hours waited; in a real "
        f"second {chunks / took:.0f} chunks, {day.statements / took:.0f} statements; "
        f"{day.statements / chunks:.1f} statements a chunk; no recording came later than by {_minutes(day.late)}"
    )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
