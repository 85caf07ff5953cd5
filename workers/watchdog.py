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
from tasks.registry import claim_and_run, last_hint
from tasks.runtime import Runtime
from tasks.slots import SLOTS

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
        self._unhinted_since: float | None = None
        self._pool = ThreadPoolExecutor(max(SLOTS[kind].count for kind in self._kinds), "unhinted")

    def run(self) -> None:
        while not self._stop_asked.wait(self._runtime.settings.heal_seconds * random.uniform(0.8, 1.2)):  # noqa: S311
            try:
                heal(self._runtime)
                self._find_unhinted_work()
            except INFRASTRUCTURE as error:
                logger.warning("could not look for work: %s", error)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def _find_unhinted_work(self) -> None:
        settings = self._runtime.settings
        now = time.monotonic()
        if not self._no_recent_hint():
            self._unhinted_since = None
            return
        found = [kind for kind in self._kinds if self._claim_unhinted(kind)]
        if self._unhinted_since is None:
            if found:
                self._unhinted_since = now
                logger.warning("no hint came for waiting steps (%s): doing them without", ", ".join(found))
        elif now - self._unhinted_since > settings.deaf_seconds and self._lost_its_broker(bool(found)):
            self._stop_asked.set()
            self._runtime.shut_down("Redis answers, but its hints do not reach this worker")

    def _no_recent_hint(self) -> bool:
        return time.monotonic() - last_hint.at >= self._runtime.settings.deaf_seconds

    def _claim_unhinted(self, kind: StepKind) -> bool:
        """Begin on what has waited too long, if there is a seat."""
        if not SLOTS[kind].free:
            return False
        with self._runtime.sessions() as session:
            late = backlog.count_claimable(
                session, kind, SLOTS[kind].free, seconds=self._runtime.settings.deaf_seconds
            )
        for _ in range(late):
            self._pool.submit(self._run_until_empty, kind)
        return late > 0

    def _run_until_empty(self, kind: StepKind) -> None:
        try:
            while claim_and_run(kind, self._runtime) and self._no_recent_hint():
                pass
        except INFRASTRUCTURE as error:
            logger.warning("could not claim: %s", error)

    def _lost_its_broker(self, found: bool) -> bool:
        """Whether hints lie unread, or are gone unheard, in a Redis that answers us."""
        try:
            unread = self._runtime.bus.count_hints(self._queue)
        except RedisError:
            return False
        return unread > 0 or found
