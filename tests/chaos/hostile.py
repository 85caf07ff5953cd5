"""Sends files made to do harm through a whole stack, with sound recordings among them."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.table import Table
from sqlalchemy import func, select

from db.models import Job, JobStatus, Step
from longhand import JobOptions
from tests.chaos.cluster import Cluster, until
from tests.hostile import hostile_files
from tests.media import DATA

WORKERS = ("cpu", "gpu", "io", "api")
NEIGHBOUR_EVERY = 20
AT_ONCE = 16
"""Jobs under way: each file meets others in its worker."""


@dataclass
class HostileReport:
    tried: Counter[str] = field(default_factory=Counter)
    ended: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By kind of file: how often it completed, or failed with which code."""
    workers_lost: int = 0
    attempts_spent: int = 0
    """Beyond the first, of any step of any job."""
    neighbours: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    """Memory of the largest decoder at any time."""

    @property
    def harmless(self) -> bool:
        """Whether nobody but the files' own jobs noticed."""
        return not self.workers_lost and not self.attempts_spent and set(self.neighbours) == {"completed"}

    @property
    def codes(self) -> set[str]:
        return {code for ends in self.ended.values() for code in ends}

    def table(self) -> Table:
        table = Table(
            title=f"{self.tried.total()} hostile files; workers lost {self.workers_lost}, attempts spent "
            f"{self.attempts_spent}, neighbours completed {self.neighbours['completed']} of "
            f"{self.neighbours.total()}, largest decoder {self.peak_bytes / 2**20:.0f} MB"
        )
        for name in ("kind", "tried", "completed", "failed, by code"):
            table.add_column(name)
        for kind, count in sorted(self.tried.items()):
            ends = self.ended[kind]
            failed = ", ".join(f"{code} {n}" for code, n in sorted(ends.items()) if code != "completed")
            table.add_row(kind, str(count), str(ends["completed"]), failed)
        return table


def attack(cluster: Cluster, folder: Path, *, count: int, seed: int) -> HostileReport:
    """Upload so many files, wait until every job has ended, and look at what it cost. Deletes its jobs."""
    chance = random.Random(seed)
    report = HostileReport()
    before = {name: cluster.pid(name) for name in WORKERS}
    submitted: dict[str, str] = {}
    with _Sampler(before["cpu"]) as sampler:
        for number, file in enumerate(hostile_files(count, seed)):
            path = folder / f"{number:04d}"
            path.write_bytes(file.data)
            options: JobOptions = {"channels": "split"} if chance.random() < 0.25 else {}
            submitted[_submit(cluster, path, options)] = file.kind
            if number % NEIGHBOUR_EVERY == 0:
                submitted[_submit(cluster, DATA / "jfk.flac", {})] = ""
            until(lambda: _unfinished(cluster, list(submitted)) < AT_ONCE, "a place among the jobs under way")
        until(lambda: not _unfinished(cluster, list(submitted)), "all jobs have ended")
    report.peak_bytes = sampler.peak_bytes
    _count(cluster, submitted, report)
    report.workers_lost = sum(cluster.pid(name) != pid for name, pid in before.items())
    for job_id in submitted:
        cluster.client.jobs.delete(job_id)
    until(lambda: not _existing(cluster, list(submitted)), "the jobs are purged")
    return report


def _submit(cluster: Cluster, path: Path, options: JobOptions) -> str:
    return str(until(lambda: cluster.client.jobs.submit(path, options), "an upload is taken")["id"])


def _ids(submitted: list[str]) -> list[uuid.UUID]:
    return [uuid.UUID(job_id) for job_id in submitted]


def _unfinished(cluster: Cluster, submitted: list[str]) -> int:
    with cluster.sessions() as session:
        unfinished = select(func.count(Job.id)).where(
            Job.id.in_(_ids(submitted)), Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING))
        )
        return session.scalar(unfinished) or 0


def _existing(cluster: Cluster, submitted: list[str]) -> int:
    with cluster.sessions() as session:
        return session.scalar(select(func.count(Job.id)).where(Job.id.in_(_ids(submitted)))) or 0


def _count(cluster: Cluster, submitted: dict[str, str], report: HostileReport) -> None:
    with cluster.sessions() as session:
        for job in session.scalars(select(Job).where(Job.id.in_(_ids(list(submitted))))):
            kind, end = submitted[str(job.id)], job.error_code or job.status.value
            if kind:
                report.tried[kind] += 1
                report.ended[kind][end] += 1
            else:
                report.neighbours[end] += 1
        spent = select(func.sum(Step.attempt - 1)).where(Step.job_id.in_(_ids(list(submitted))), Step.attempt > 1)
        report.attempts_spent = session.scalar(spent) or 0


class _Sampler(threading.Thread):
    """Watches the memory of everything that a worker has started."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._worker = psutil.Process(pid)
        self._stop_asked = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._stop_asked.wait(0.02):
            for process in self._worker.children(recursive=True):
                try:
                    self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def __enter__(self) -> _Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self.join()
