"""What a worker does beside its steps: it heals what others left, and finds the work that no hint announced."""

from __future__ import annotations

import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from redis.exceptions import RedisError

from db.models import StepKind
from db.queue import backlog
from tasks.errors import INFRASTRUCTURE
from tasks.maintenance.healing import heal
from tasks.queue import QUEUES
from tasks.registry import SEATS, hints, perform
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Looks every few seconds, at moments of its own, for as long as the process lives.

    A consumer can lose its broker without noticing, and the broker can lose hints. So steps that have waited long
    while a seat is free are simply done, without a hint; and where Redis answers us all the same, our consumer has
    gone deaf and the process makes room for a fresh one.
    """

    def __init__(self, runtime: Runtime, queue: str) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._runtime = runtime
        self._queue = queue
        self._kinds = [kind for kind, its_queue in QUEUES.items() if its_queue == queue]
        self._stop_asked = threading.Event()
        self._unheard_since: float | None = None
        self._hands = ThreadPoolExecutor(max(SEATS[kind].count for kind in self._kinds), "unhinted")

    def run(self) -> None:
        while not self._stop_asked.wait(self._runtime.settings.heal_seconds * random.uniform(0.8, 1.2)):  # noqa: S311
            try:
                heal(self._runtime)
                self._look()
            except INFRASTRUCTURE as error:
                logger.warning("could not look for work: %s", error)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def _look(self) -> None:
        settings = self._runtime.settings
        now = time.monotonic()
        if not self._silent():
            self._unheard_since = None
            return
        found = [kind for kind in self._kinds if self._take_up(kind)]
        if self._unheard_since is None:
            if found:
                self._unheard_since = now
                logger.warning("no hint came for waiting steps (%s): doing them without", ", ".join(found))
        elif now - self._unheard_since > settings.deaf_seconds and self._is_deaf(bool(found)):
            self._stop_asked.set()
            self._runtime.leave("Redis answers, but its hints do not reach this worker")

    def _silent(self) -> bool:
        return time.monotonic() - hints.heard >= self._runtime.settings.deaf_seconds

    def _take_up(self, kind: StepKind) -> bool:
        """Begin on what has waited too long, if there is a seat."""
        if not SEATS[kind].free:
            return False
        with self._runtime.sessions() as session:
            late = backlog.waiting(session, kind, SEATS[kind].free, seconds=self._runtime.settings.deaf_seconds)
        for _ in range(late):
            self._hands.submit(self._work_off, kind)
        return late > 0

    def _work_off(self, kind: StepKind) -> None:
        try:
            while perform(kind, self._runtime) and self._silent():
                pass
        except INFRASTRUCTURE as error:
            logger.warning("could not claim: %s", error)

    def _is_deaf(self, found: bool) -> bool:
        """Whether hints lie unread, or are gone unheard, in a Redis that answers us."""
        try:
            unread = self._runtime.bus.hints(self._queue)
        except RedisError:
            return False
        return unread > 0 or found
