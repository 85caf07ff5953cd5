"""Authentication: from the credential of a request to its caller, without a question to any database."""

from __future__ import annotations

import logging

from api.access.caller import ALL_SCOPES, Caller
from api.access.directory import Directory, KnownKey
from api.access.failures import Failures
from api.problems import Problem, storage_unavailable
from db.access.keys import digest_of
from db.models import Priority
from db.settings import ApiKey, Settings

logger = logging.getLogger(__name__)

ANYONE = Caller("default", ALL_SCOPES, Priority.HIGH, actor="anyone", operator=True)
"""Whoever can connect to a server without keys."""


class Authenticator:
    """The credentials that one API process knows: keys of the environment, and those of the database."""

    def __init__(self, settings: Settings, directory: Directory, *, may_be_open: bool) -> None:
        self._directory, self._may_be_open = directory, may_be_open
        self._failures = Failures()
        self._environment = {digest_of(key): _bootstrap(grant) for key, grant in settings.api_keys.items()}

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for: there is none in the environment, and never was one in the database."""
        known = self._may_be_open and self._directory.loaded
        return known and not self._environment and not self._directory.any_keys

    def explain(self) -> None:
        """Log which keys are asked for."""
        if self._environment:
            logger.info(
                "%d bootstrap keys in LONGHAND_API_KEYS: they may do everything, for every tenant. "
                "Those of `longhand keys create` can be limited, expire and be revoked.",
                len(self._environment),
            )
        elif self.is_open:
            logger.info(
                "no key is asked for: whoever reaches this address may use the API (`longhand keys create`)"
            )

    def caller(self, authorization: str | None, address: str) -> Caller:
        """The caller of a request with this header, from this address. Raises Problem."""
        if self.is_open:
            return ANYONE
        scheme, _, given = (authorization or "").partition(" ")
        credential = given.strip() if scheme.lower() == "bearer" else ""
        # looked up by its digest: how long that takes tells nothing of the keys
        found = self._by_key(credential) if credential else None
        if found is not None:
            return found
        if not self._directory.loaded:
            raise storage_unavailable()
        if credential:
            self._failures.count(address)
        raise unauthorized("Send a valid API key as `Authorization: Bearer KEY`.")

    def _by_key(self, key: str) -> Caller | None:
        digest = digest_of(key)
        if (bootstrap := self._environment.get(digest)) is not None:
            return bootstrap
        known = self._directory.find_key(digest)
        if known is None:
            return None
        self._directory.note_use(known.id)
        return caller_of(known)


def caller_of(key: KnownKey) -> Caller:
    return Caller(key.tenant, key.scopes, key.max_priority, actor=f"{key.name} ({key.prefix})", key_id=key.id)


def unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _bootstrap(grant: str | ApiKey) -> Caller:
    """The caller with a key of the environment: whoever sets that runs the server."""
    tenant, priority = (grant, "normal") if isinstance(grant, str) else (grant.tenant, grant.max_priority)
    return Caller(tenant, ALL_SCOPES, Priority(priority), actor="environment", operator=True)
