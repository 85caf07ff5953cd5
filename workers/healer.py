"""Healing from every worker, so that neither beat nor a free thread is needed for it."""

from __future__ import annotations

import logging
import random
import threading

from tasks.runtime import Runtime
from tasks.step import INFRASTRUCTURE
from tasks.upkeep import heal

logger = logging.getLogger(__name__)


class Healer(threading.Thread):
    """Heals every few seconds, at moments of its own, for as long as the process lives."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(name="healer", daemon=True)
        self._runtime = runtime
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(self._runtime.settings.heal_seconds * random.uniform(0.8, 1.2)):  # noqa: S311
            try:
                heal(self._runtime)
            except INFRASTRUCTURE as error:
                logger.warning("could not heal: %s", error)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()
