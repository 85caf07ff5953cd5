"""Authentication: API keys, and what each may do."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from api.problems import Problem
from db.models import Priority
from db.settings import ApiKey, Settings

PRIORITIES = (Priority.LOW, Priority.NORMAL, Priority.HIGH)


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant, and the highest priority that its key may ask for."""

    tenant: str
    max_priority: Priority

    def require_priority(self, priority: Priority) -> None:
        """Raises Problem if the key does not allow this priority."""
        if PRIORITIES.index(priority) > PRIORITIES.index(self.max_priority):
            raise Problem(
                403,
                "priority_not_allowed",
                "Priority not allowed",
                f"This API key may ask for priority {self.max_priority} at most, not {priority}; leave the option "
                "out, or have `max_priority` of the key raised.",
            )


def authenticate(settings: Settings, authorization: str | None) -> Caller:
    """The caller of a request with this header; ``default`` on a server without keys. Raises Problem."""
    if not settings.api_keys:
        return Caller("default", Priority.HIGH)
    scheme, _, given = (authorization or "").partition(" ")
    caller = None
    # compares all keys, so that the time taken reveals nothing
    for key, grant in settings.api_keys.items():
        if hmac.compare_digest(key.encode(), given.strip().encode()) and scheme.lower() == "bearer":
            caller = _caller(grant)
    if caller is None:
        raise Problem(
            401,
            "unauthorized",
            "Unauthorized",
            "Send a valid API key as `Authorization: Bearer KEY`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return caller


def _caller(grant: str | ApiKey) -> Caller:
    if isinstance(grant, str):
        return Caller(grant, Priority.NORMAL)
    return Caller(grant.tenant, Priority(grant.max_priority))
