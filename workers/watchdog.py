"""The watchdog of a worker: heals the queue, and claims steps and deliveries whose hints were lost."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from redis.exceptions import RedisError

from db.queue import backlog
from db.session import autocommit
from db.telemetry import metrics
from tasks.errors import INFRASTRUCTURE
from tasks.maintenance.healing import heal, is_due
from tasks.queue import QUEUES
from tasks.registry import claim_and_run, last_hint
from tasks.runtime import Runtime
from tasks.slots import SLOTS, concurrency_of

logger = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Runs every few seconds, with jitter, as long as the process does.

    A consumer can lose its connection to the broker without noticing, and the broker can lose hints. So steps that
    have waited long while a slot is free are run without a hint. If Redis answers but its hints keep missing, the
    consumer's connection is dead, and the process shuts down to be restarted.
    """

    def __init__(self, runtime: Runtime, queue: str) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._runtime = runtime
        self._queue = queue
        self._kinds = [kind for kind, its_queue in QUEUES.items() if its_queue == queue]
        self._stop_requested = threading.Event()
        self._unhinted_since: float | None = None
        self._runs: dict[str, list[Future[str]]] = {}
        """Without a hint, by the last look, of each kind."""
        self._pool = ThreadPoolExecutor(concurrency_of(queue), "unhinted")

    def run(self) -> None:
        self._show_life()
        while not self._stop_requested.wait(self._runtime.settings.heal_seconds * random.uniform(0.8, 1.2)):  # noqa: S311
            self.look()

    def look(self) -> None:
        """One round: heal if nobody else has, and find what waits without a hint."""
        self._show_life()
        try:
            if is_due(self._runtime):
                with metrics.healing_seconds.time():
                    heal(self._runtime)
                metrics.healing_rounds.labels("done").inc()
            self._find_unhinted_work()
        except INFRASTRUCTURE as error:
            metrics.healing_rounds.labels("failed").inc()
            logger.warning("could not look for work: %s", error)
        except Exception:
            # whatever it was, no other thread looks after this process
            metrics.healing_rounds.labels("failed").inc()
            logger.exception("could not look for work")

    def _show_life(self) -> None:
        """To who counts workers, and to who looks after this one."""
        settings = self._runtime.settings
        with suppress(OSError):
            (settings.data_dir / f"{self._queue}.alive").touch()
        if self._runtime.claims.is_stopped:
            return
        try:
            self._runtime.bus.tell_presence(self._runtime.worker, self._queue, settings.heal_seconds)
        except RedisError as error:
            logger.debug("could not say that this worker is there: %s", error)

    def stop(self) -> None:
        self._stop_requested.set()
        self.join()

    def _find_unhinted_work(self) -> None:
        settings = self._runtime.settings
        now = time.monotonic()
        if not self._no_recent_hint():
            self._unhinted_since = None
            return
        waiting = self._count_waiting()
        unhinted = [kind for kind in self._kinds if self._claim_unhinted(kind, waiting[kind])]
        if self._unhinted_since is None:
            if unhinted:
                self._unhinted_since = now
                logger.warning("no hint came for waiting steps (%s): running them without", ", ".join(unhinted))
        elif now - self._unhinted_since > settings.deaf_seconds and self._lost_broker(bool(unhinted)):
            self._stop_requested.set()
            self._runtime.shut_down("Redis answers, but its hints do not reach this worker")

    def _no_recent_hint(self) -> bool:
        return time.monotonic() - last_hint.at >= self._runtime.settings.deaf_seconds

    def _count_waiting(self) -> Counter[str]:
        """Steps that have waited too long beside a free slot, of each kind, up to as many as there are slots."""
        free = {kind: SLOTS[kind].free for kind in self._kinds}
        with autocommit(self._runtime.sessions) as session:
            return backlog.count_claimable(session, free, self._runtime.settings.deaf_seconds)

    def _claim_unhinted(self, kind: str, waiting: int) -> bool:
        """Claim that many steps. Returns whether those that the last look started have found any.

        Steps can wait though no hint was lost, such as those of tenants that have their share.
        """
        runs = self._runs.pop(kind, [])
        # one that still runs says nothing about hints: none is sent where nothing else waits
        found = any(run.done() and run.result() for run in runs)
        started = [self._pool.submit(self._run_unhinted, kind) for _ in range(waiting)]
        self._runs[kind] = [run for run in runs if not run.done()] + started
        return found

    def _run_unhinted(self, kind: str) -> str:
        try:
            return claim_and_run(kind, self._runtime)
        except INFRASTRUCTURE as error:
            logger.warning("could not claim: %s", error)
        except Exception:
            # nobody asks for what the pool returns
            logger.exception("could not run a %s step", kind)
        return ""

    def _lost_broker(self, found_unhinted: bool) -> bool:
        """Whether Redis answers, while its hints stay unread or got lost."""
        try:
            unread = self._runtime.bus.count_hints(self._queue)
        except RedisError:
            return False
        return unread > 0 or found_unhinted
