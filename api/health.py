"""Health checks of Postgres, Redis and S3, shared by concurrent callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import text

from db.events.bus import Bus
from db.objects.storage import Storage
from db.session import Sessions


class HealthChecks:
    """Thread-safe. Callers share the running checks, which take one thread for each server."""

    def __init__(self, sessions: Sessions, bus: Bus, storage: Storage) -> None:
        self._sessions = sessions
        self._checks: Mapping[str, Callable[[], None]] = {
            "postgres": self._ping_postgres,
            "redis": bus.ping,
            "s3": storage.ping,
        }
        self._pool = ThreadPoolExecutor(len(self._checks), "health")
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}

    def check(self) -> dict[str, Future[None]]:
        """The running checks; finished ones are started again."""
        with self._lock:
            for name, check in self._checks.items():
                if name not in self._running or self._running[name].done():
                    self._running[name] = self._pool.submit(check)
            return dict(self._running)

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _ping_postgres(self) -> None:
        with self._sessions() as session:
            session.execute(text("SELECT 1"))
