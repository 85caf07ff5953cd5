"""Authentication: from the headers of a request to its caller."""

from __future__ import annotations

import hmac

from api.access.caller import ALL_SCOPES, Caller
from api.problems import Problem
from db.models import Priority
from db.settings import ApiKey, Settings


def authenticate(settings: Settings, authorization: str | None) -> Caller:
    """The caller of a request with this header; ``default`` on a server without keys. Raises Problem."""
    if not settings.api_keys:
        return Caller("default", ALL_SCOPES, Priority.HIGH, actor="anyone")
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
        return Caller(grant, ALL_SCOPES, Priority.NORMAL, actor="environment")
    return Caller(grant.tenant, ALL_SCOPES, Priority(grant.max_priority), actor="environment")
