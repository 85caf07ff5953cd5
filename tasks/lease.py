"""Renewal of the leases of claimed steps while they are worked on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from db.queue import leases
from db.queue.claims import Claim
from tasks.errors import LeaseLost
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


class Lease:
    """Renews the leases of some claims from a background thread, until the deadline of their kind.

    A step that hangs must lose its lease, so renewal stops at the deadline, and the process with its stuck thread
    leaves.
    """

    def __init__(self, runtime: Runtime, claims: Sequence[Claim], deadline: float) -> None:
        self._runtime, self._claims = runtime, claims
        self._deadline = deadline
        self._until = time.monotonic() + deadline
        self._held = {claim.id for claim in claims}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self, claim: Claim) -> None:
        """Raise LeaseLost if the last renewal found the step cancelled or taken over."""
        if claim.id not in self._held:
            raise LeaseLost(f"{claim.kind} step {claim.id} is no longer ours")

    def _renew(self) -> None:
        settings = self._runtime.settings
        while not self._stop.wait(settings.lease_renew_seconds):
            if time.monotonic() > self._until:
                self._runtime.claims.release(self._claims)
                kinds = ", ".join(f"{claim.kind} step {claim.id}" for claim in self._claims)
                self._runtime.shut_down(f"{kinds} outlived the deadline of {self._deadline:.0f} s")
                return
            try:
                self._held = leases.renew(self._runtime.sessions, self._claims, settings)
            except SQLAlchemyError as error:
                # a lease lasts for several renewals: the next one may reach Postgres
                logger.warning("could not renew a lease: %s", error)
            except Exception:
                logger.exception("could not renew a lease")
