"""Renewal of the leases of claimed steps while they are worked on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from db.queue import leases
from db.queue.claims import Claim
from tasks.errors import LeaseLost

if TYPE_CHECKING:
    from tasks.runtime import Runtime

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""After which steps that were locked are renewed."""


class Lease:
    """The leases of some claims, renewed in the background until the deadline of their kind.

    A step that hangs must lose its lease, so renewal stops at the deadline, and the process with its stuck thread
    leaves.
    """

    def __init__(self, runtime: Runtime, claims: Sequence[Claim], deadline: float) -> None:
        self._runtime = runtime
        self.claims = claims
        self._deadline = deadline
        self._until = time.monotonic() + deadline
        self.held = {claim.id for claim in claims}

    def __enter__(self) -> Lease:
        self._runtime.renewals.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._runtime.renewals.end(self)

    def check(self, claim: Claim) -> None:
        """Raise LeaseLost if the last renewal found the step cancelled or taken over."""
        if claim.id not in self.held:
            raise LeaseLost(f"{claim.kind} step {claim.id} is no longer ours")

    def give_up_if_late(self) -> bool:
        """End the process if the deadline has passed. Returns whether it has."""
        if time.monotonic() <= self._until:
            return False
        self._runtime.claims.release(self.claims)
        kinds = ", ".join(f"{claim.kind} step {claim.id}" for claim in self.claims)
        self._runtime.shut_down(f"{kinds} outlived the deadline of {self._deadline:.0f} s")
        return True


class Renewals:
    """Renews all leases of a process: one statement of one thread, which is there while there are any."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()
        self._running = False

    def begin(self, lease: Lease) -> None:
        with self._lock:
            if not self._running:
                # it may be refused: then there is none, and the next lease asks again
                threading.Thread(target=self._run, name="leases", daemon=True).start()
                self._running = True
            self._leases.add(lease)

    def end(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)

    def _run(self) -> None:
        seconds = self._runtime.settings.lease_renew_seconds
        pause = seconds
        while True:
            time.sleep(pause)
            with self._lock:
                current = list(self._leases)
                if not current:
                    self._running = False
                    return
            pause = seconds
            try:
                if not self._renew(current):
                    pause = min(seconds, AGAIN_SECONDS)
            except SQLAlchemyError as error:
                # a lease lasts for several renewals: the next one may reach Postgres
                logger.warning("could not renew leases: %s", error)
            except Exception:
                logger.exception("could not renew leases")

    def _renew(self, current: Sequence[Lease]) -> bool:
        """Returns whether all could be renewed that are still held."""
        for lease in current:
            if lease.give_up_if_late():
                self.end(lease)
        kept = [lease for lease in current if lease in self._leases]
        claims = [claim for lease in kept for claim in lease.claims]
        renewed = leases.renew(self._runtime.sessions, claims, self._runtime.settings)
        for lease in kept:
            lease.held = renewed.keys() & {claim.id for claim in lease.claims}
        return all(renewed.values())
