"""The queue as Postgres has it. One process exports it: of several that did, each would tell the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from db.queue import backlog
from db.session import Sessions

FRESH_SECONDS = 5.0
"""So long an answer is told again: whoever scrapes often asks Postgres no more for it."""


class QueueCollector(Collector):
    """Thread-safe. While Postgres is away it tells that alone."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                self._families = self._read()
                self._read_at = time.monotonic()
            return self._families

    def _read(self) -> list[Metric]:
        readable = GaugeMetricFamily("longhand_database_readable", "Whether Postgres told of the queue.")
        try:
            with self._sessions() as session:
                depths = backlog.depths(session)
                jobs = backlog.open_jobs(session)
                versions = backlog.version_states(session)
        except SQLAlchemyError:
            readable.add_metric([], 0)
            return [readable]
        readable.add_metric([], 1)
        waiting = _by_kind("longhand_queue_waiting_steps", "Steps that could run now, and wait for a worker.")
        delayed = _by_kind("longhand_queue_delayed_steps", "Steps that wait for their time.")
        running = _by_kind("longhand_queue_running_steps", "Steps that a worker holds.")
        oldest = _by_kind(
            "longhand_queue_oldest_age_seconds", "Since the one of the waiting steps that waits longest could run."
        )
        for kind, depth in depths.items():
            waiting.add_metric([kind], depth.waiting)
            delayed.add_metric([kind], depth.delayed)
            running.add_metric([kind], depth.running)
            oldest.add_metric([kind], depth.oldest_seconds)
        states = GaugeMetricFamily("longhand_model_versions", "Tuned models by state.", labels=["state"])
        for state, count in versions.items():
            states.add_metric([state], count)
        open_jobs = GaugeMetricFamily(
            "longhand_jobs", "Jobs that have not ended.", labels=["status", "priority", "tenant_class"]
        )
        for labels, count in jobs.items():
            open_jobs.add_metric(labels, count)
        return [readable, waiting, delayed, running, oldest, states, open_jobs]


def _by_kind(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=["kind"])
