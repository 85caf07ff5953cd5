"""Counting refused requests, so that a flood of them leaves a bounded number of rows in the audit log."""

from __future__ import annotations

import ipaddress
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from db.access.audit import Entry

WINDOW_SECONDS = 60.0
MAX_COUNTED = 1000
"""Callers counted apart in a window; all others are counted together."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Whose requests are counted together."""

    tenant: str | None
    actor: str
    key_id: uuid.UUID | None
    address: str | None
    status: int


@dataclass(slots=True)
class _Tally:
    since: float
    last: datetime
    count: int
    """Refusals that no row tells of yet."""
    told: bool = False


class Refusals:
    """The first refusal of a caller gives a row at once, the others of the same minute one together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tallies: dict[Refused, _Tally] = {}

    def add(self, refused: Refused) -> None:
        if refused not in self._tallies and len(self._tallies) >= MAX_COUNTED:
            refused = Refused(None, "many callers", None, None, refused.status)
        now = datetime.now(UTC)
        tally = self._tallies.setdefault(refused, _Tally(self._clock(), now, 0))
        tally.count += 1
        tally.last = now

    def due(self, *, everything: bool = False) -> Iterator[Entry]:
        """The rows to write now, which are so counted as told."""
        now = self._clock()
        for refused, tally in list(self._tallies.items()):
            ended = now - tally.since >= WINDOW_SECONDS or everything
            if tally.count and (ended or not tally.told):
                yield Entry(
                    at=tally.last,
                    tenant=refused.tenant,
                    actor=refused.actor,
                    key_id=refused.key_id,
                    address=refused.address,
                    action="refused",
                    target=None,
                    status=refused.status,
                    count=tally.count,
                )
                tally.count, tally.told = 0, True
            if ended:
                del self._tallies[refused]


def network_of(address: str | None) -> str | None:
    """What refusals are counted by: the address, or the /64 that one holder of an IPv6 address has."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
