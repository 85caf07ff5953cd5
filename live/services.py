"""What all live sessions of a process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from anyio import CapacityLimiter

from api.access.authenticate import Authenticator
from api.access.directory import Directory
from api.access.rates import Rates
from db.events.bus import Bus
from db.objects.storage import Storage
from db.queue.transaction import JobTransaction
from db.session import Sessions
from db.settings import Settings
from db.telemetry.jobs import count_events
from db.tenancy import TenantSessions
from http_engines.endpoints import EndpointsFile
from live.stages import Stages
from speech.audio.isolated.client import IsolatedDecoder
from tasks.queue import send_hints

THREADS = 16
"""That write what sessions leave."""


@dataclass(slots=True)
class Services:
    settings: Settings
    for_tenant: TenantSessions
    across_tenants: Sessions
    """For what is counted over all."""
    storage: Storage
    bus: Bus
    directory: Directory
    authenticator: Authenticator
    rates: Rates
    endpoints: EndpointsFile
    """Of models behind HTTP."""
    stages: Stages
    decoder: IsolatedDecoder
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))

    def announce(self, transaction: JobTransaction) -> None:
        """After the commit: publish the events, then send hints to workers. In a thread."""
        count_events(transaction)
        self.bus.publish(transaction.events)
        send_hints(transaction.ready)
