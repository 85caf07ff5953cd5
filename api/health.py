"""Health checks of Postgres, Redis and S3, shared by concurrent callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import text

from db.events.bus import Bus
from db.objects.storage import Storage
from db.session import Sessions
from http_engines.endpoints import EndpointsFile
from http_engines.look import State, survey


class HealthChecks:
    """Thread-safe. Callers share the running checks, which take one thread for each server."""

    def __init__(self, sessions: Sessions, bus: Bus, storage: Storage, endpoints: EndpointsFile) -> None:
        self._sessions = sessions
        self._endpoints = endpoints
        self._models: dict[str, str] = {}
        self._looking: Future[None] | None = None
        self._checks: Mapping[str, Callable[[], None]] = {
            "postgres": self._ping_postgres,
            "redis": bus.ping,
            "s3": storage.ping,
        }
        self._pool = ThreadPoolExecutor(len(self._checks) + 1, "health")
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}

    def check(self) -> dict[str, Future[None]]:
        """The running checks; finished ones are started again."""
        with self._lock:
            for name, check in self._checks.items():
                if name not in self._running or self._running[name].done():
                    self._running[name] = self._pool.submit(check)
            return dict(self._running)

    def models(self) -> dict[str, str]:
        """Of each model behind HTTP, whether its hosts answer: ``ok``, ``partly`` or ``away``.

        As of the last look: nobody waits for them, and the next caller is told.
        """
        with self._lock:
            if self._looking is None or self._looking.done():
                self._looking = self._pool.submit(self._look)
            return dict(self._models)

    def _look(self) -> None:
        self._models = {
            name: "ok" if states == {State.OK} else "partly" if State.OK in states else "away"
            for name, hosts in survey(self._endpoints.current).items()
            for states in ({seen.state for seen in hosts.values()},)
        }

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _ping_postgres(self) -> None:
        with self._sessions() as session:
            session.execute(text("SELECT 1"))
