"""A whole stack of real processes, on one host or two, whose Redis and S3 are behind proxies that can fail."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
from celery import Celery
from redis import Redis
from sqlalchemy import make_url, select
from sqlalchemy.exc import SQLAlchemyError

from cli.stack.stack import PORTS, PRODUCTS, SERVERS, Plan, Stack, running_stack
from db.models import Step, StepKind, StepState
from db.session import make_sessions
from db.settings import Settings
from longhand import Client, Event, JobOptions, LonghandError
from tasks.queue import QUEUES
from tests import waiting
from tests.chaos import clock
from tests.chaos.proxy import HOST, Proxy
from tests.conftest import MODELS, settings_from

# Leases and healing in seconds, so that a run of minutes has many of each.
SHORT_INTERVALS = {
    "LONGHAND_MODELS_DIR": str(MODELS),
    "LONGHAND_LEASE_SECONDS": "4",
    "LONGHAND_LEASE_RENEW_SECONDS": "1",
    "LONGHAND_HEAL_SECONDS": "1",
    "LONGHAND_RETRY_SECONDS": "0.2",
    "LONGHAND_DEAF_SECONDS": "6",
    "LONGHAND_DRAIN_SECONDS": "8",
    "LONGHAND_MAX_ATTEMPTS": "3",
    "LONGHAND_STALL_SECONDS": "10",
}


until = partial(waiting.until, despite=(httpx.HTTPError, LonghandError, SQLAlchemyError))
"""The API and Postgres may fail at any time."""


@dataclass
class SubmittedJob:
    """A job that was accepted, and the events that its client got."""

    recording: Path
    job_id: str
    events: list[Event] = field(default_factory=list)
    follower: threading.Thread | None = None


@dataclass
class Cluster:
    servers: Stack
    hosts: list[Stack]
    """Where the products run: all of them on the first."""
    redis_proxy: Proxy
    s3_proxy: Proxy
    settings: Settings
    """Those of the products, but with the servers instead of the proxies."""
    log_lines: list[str]
    clocks: list[Path]
    """Of each host: the file that says by how many seconds the clock of its workers is wrong."""
    jobs: list[SubmittedJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = cycle([Client(host.api_url) for host in self.hosts])
        self.client = next(self.clients)
        self.sessions = make_sessions(self.settings, name="chaos")
        self.celery = Celery("chaos", broker=self.settings.redis_url)
        self.redis = Redis.from_url(self.settings.redis_url)

    def pid(self, name: str, host: int = 0) -> int:
        """The id of the named process. Waits while it is being restarted."""
        stack = self.servers if name in SERVERS else self.hosts[host]
        return until(lambda: self._alive(stack, name), f"{name} runs")

    def _alive(self, stack: Stack, name: str) -> int | None:
        process = next(p for p in stack.supervisor.processes if p.name == name)
        return process.pid if process.running else None

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL, host: int = 0) -> None:
        os.kill(self.pid(name, host), number)

    def hang(self, name: str, *, on: bool) -> None:
        """Suspend a server with all its processes, or resume it: it takes connections, and says nothing."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid(name))
            for each in (process, *process.children(recursive=True)):
                each.suspend() if on else each.resume()

    def set_clock(self, host: int, seconds: int) -> None:
        """Have the clock of a host's workers be wrong by so much; what passes is right."""
        new = self.clocks[host].with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.clocks[host])

    def busy(self, queue: str) -> int | None:
        """The fence of a step that the worker of the queue has leased, if any."""
        kinds = [kind for kind in StepKind if QUEUES[kind] == queue]
        with self.sessions() as session:
            held = select(Step.fence).where(Step.state == StepState.LEASED, Step.kind.in_(kinds)).limit(1)
            return session.scalar(held)

    def ready(self) -> bool:
        return all(httpx.get(f"{host.api_url}/readyz", timeout=10).status_code == 200 for host in self.hosts)

    def submit(self, recording: Path, options: Mapping[str, Any]) -> SubmittedJob:
        """Upload until it succeeds, and follow the job's events."""
        client = next(self.clients)
        job = until(lambda: client.jobs.submit(recording, cast(JobOptions, options)), "an upload is taken")
        return self.follow(SubmittedJob(recording, job["id"]))

    def submit_slowly(self, recording: Path, midway: Callable[[], None]) -> SubmittedJob:
        """Upload half of a file, call ``midway``, and try again under the same idempotency key."""
        key = uuid.uuid4().hex
        body = recording.read_bytes()
        middle = len(body) // 2

        def halves() -> Iterator[bytes]:
            yield body[:middle]
            midway()
            yield body[middle:]

        with contextlib.suppress(httpx.HTTPError):
            self._upload(key, halves())
        job = until(lambda: self._upload(key, iter([body])), "a broken upload is taken")
        return self.follow(SubmittedJob(recording, job["id"]))

    def _upload(self, key: str, body: Iterator[bytes]) -> dict[str, Any] | None:
        """The job, or None if the API refuses it."""
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow"\r\n\r\n'
        answer = httpx.post(
            f"{self.hosts[0].api_url}/v1/jobs",
            content=chain([head], body, [b"\r\n--x--\r\n"]),
            headers={"Idempotency-Key": key, "Content-Type": "multipart/form-data; boundary=x"},
            timeout=60,
        )
        return answer.json() if answer.status_code == 202 else None

    def follow(self, job: SubmittedJob) -> SubmittedJob:
        client = next(self.clients)

        def read() -> None:
            after = 0
            while not job.events or job.events[-1].type not in ("job.completed", "job.failed", "job.cancelled"):
                with contextlib.suppress(LonghandError):
                    for event in client.jobs.events(job.job_id, after=after):
                        job.events.append(event)
                        after = event.seq

        job.follower = threading.Thread(target=read, daemon=True)
        job.follower.start()
        self.jobs.append(job)
        return job

    def finish(self) -> None:
        """Wait until the events of every job have ended."""
        for job in self.jobs:
            assert job.follower is not None
            job.follower.join(waiting.LIMIT_SECONDS)
            if job.follower.is_alive():
                state = self.client.jobs.get(job.job_id)
                raise AssertionError(f"job {job.job_id} does not end; it is {state['status']}: {state}")

    def transcript(self, job: SubmittedJob) -> dict[str, Any]:
        return comparable(self.client.jobs.transcript(job.job_id))


def comparable(transcript: Mapping[str, Any]) -> dict[str, Any]:
    """A transcript without what differs between runs: its id, and when segments were last changed."""
    segments = [
        {name: value for name, value in segment.items() if name != "version"} for segment in transcript["segments"]
    ]
    return {name: value for name, value in transcript.items() if name != "job_id"} | {"segments": segments}


SECOND_HOST = ("api", "cpu", "gpu", "io")
"""What runs there too, with data and ports of its own."""


@contextlib.contextmanager
def running_cluster(folder: Path, *, hosts: int = 1) -> Iterator[Cluster]:
    before = dict(os.environ)
    log_lines: list[str] = []
    ports = dict.fromkeys(PORTS, 0)
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, before)
        os.environ.update(SHORT_INTERVALS)
        servers = stack.enter_context(_supervised(Plan(folder, parts=tuple(SERVERS), ports=ports), log_lines))
        direct = settings_from({**SHORT_INTERVALS, **servers.environment})
        redis_url, s3_url = make_url(direct.redis_url), make_url(direct.s3_endpoint or "")
        redis_proxy, s3_proxy = Proxy(redis_url.port or 0), Proxy(s3_url.port or 0)
        stack.callback(redis_proxy.close)
        stack.callback(s3_proxy.close)
        os.environ.update(servers.environment)
        os.environ["LONGHAND_REDIS_URL"] = redis_url.set(port=redis_proxy.port).render_as_string(False)
        os.environ["LONGHAND_S3_ENDPOINT"] = f"http://{HOST}:{s3_proxy.port}"
        running: list[Stack] = []
        clocks = [folder / f"clock{host}" for host in range(hosts)]
        for file in clocks:
            file.write_text("0")
        for host in range(hosts):
            parts, place = (SECOND_HOST, folder / f"host{host}") if host else (PRODUCTS, folder)
            os.environ[clock.VARIABLE] = str(clocks[host])
            plan = Plan(place, parts=parts, ports=ports, worker_module="tests.chaos.worker")
            running.append(stack.enter_context(_supervised(plan, log_lines)))
        yield Cluster(servers, running, redis_proxy, s3_proxy, direct, log_lines, clocks)


@contextlib.contextmanager
def _supervised(plan: Plan, log_lines: list[str]) -> Iterator[Stack]:
    with running_stack(plan, log_lines.append) as started:
        watching = threading.Thread(target=started.supervisor.watch, daemon=True)
        watching.start()
        try:
            yield started
        finally:
            started.supervisor.finish()
            watching.join()


def _restore(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)
