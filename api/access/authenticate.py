"""Authentication: from the credential of a request to its caller, without a question to any database."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from dataclasses import replace

from api.access import tokens
from api.access.caller import ALL_SCOPES, PRIORITIES, Caller
from api.access.directory import Directory, KnownKey
from api.access.failures import Failures
from api.access.oidc import Oidc
from api.access.tokens import is_token
from api.problems import Problem, storage_unavailable
from db.access import links
from db.access.keys import digest_of
from db.models import Priority, Scope
from db.settings import ApiKey, Settings

logger = logging.getLogger(__name__)

ANYONE = Caller("default", ALL_SCOPES, Priority.HIGH, actor="anyone", operator=True)
"""Whoever can connect to a server without keys."""


class Authenticator:
    """The credentials that one API process knows: keys of the environment, and those of the database."""

    def __init__(self, settings: Settings, directory: Directory, *, may_be_open: bool) -> None:
        self._directory, self._may_be_open = directory, may_be_open
        self._failures = Failures()
        self._oidc = Oidc(settings) if settings.oidc_issuer else None
        self._environment = {
            digest_of(key): _bootstrap(grant, digest_of(key)) for key, grant in settings.api_keys.items()
        }

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for: there is none in the environment, and never was one in the database."""
        known = self._may_be_open and self._directory.loaded and self._oidc is None
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

    async def caller(self, authorization: str | None, address: str, query_token: str | None = None) -> Caller:
        """The caller of a request with this header, or this token in its URL, and this address. Raises Problem."""
        scheme, _, given = (authorization or "").partition(" ")
        credential = given.strip() if scheme.lower() == "bearer" else ""
        if credential.startswith(links.MARK):
            return await self._by_link(credential, address)
        if self.is_open:
            return ANYONE
        # looked up by its digest: how long that takes tells nothing of the keys
        found = self._by_key(credential) if credential else None
        if found is not None:
            return found
        token = credential if is_token(credential) else query_token
        if token is not None:
            try:
                return await self._by_token(token)
            except Problem as problem:
                if problem.status == 401 and self._directory.loaded:
                    self._failures.count(address)
                raise
        if not self._directory.loaded:
            raise storage_unavailable()
        if credential:
            self._failures.count(address)
        raise unauthorized("Send a valid API key as `Authorization: Bearer KEY`.")

    def holds(self, caller: Caller) -> bool:
        """Whether the key that a caller came with, or that made its token, works still."""
        return caller.key_id is None or self._directory.key(caller.key_id) is not None

    def issue(
        self, caller: Caller, scopes: Collection[Scope], job_id: uuid.UUID | None, seconds: int
    ) -> tuple[str, int]:
        """A token for a part of what the caller may do, and when it expires. Raises Problem."""
        if caller.credential is None:
            detail = "Tokens are made with an API key: neither with a token nor without."
            raise Problem(403, "key_needed", "Key needed", detail)
        return tokens.issue(self._directory.signers, caller, caller.credential, scopes, job_id, seconds)

    async def _by_token(self, token: str) -> Caller:
        """Raises Problem."""
        if self._oidc is not None and self._oidc.issued(token):
            return await self._oidc.caller(token)
        claims = tokens.verify(self._directory.signers, token)
        maker = self._maker(claims.key)
        if maker is None or maker.tenant != claims.tenant:
            raise tokens.invalid_token()
        return replace(
            maker,
            scopes=frozenset(scope for scope in claims.scopes if maker.may(scope)),
            max_priority=min(claims.max_priority, maker.max_priority, key=PRIORITIES.index),
            actor=f"token of {maker.actor}",
            operator=False,
            credential=None,
            short_lived=True,
            job_id=claims.job_id,
        )

    async def _by_link(self, secret: str, address: str) -> Caller:
        """Raises Problem."""
        # what cannot be one is not looked for: anybody can send it
        link = await self._directory.find_link(secret) if links.SECRET.fullmatch(secret) else None
        if link is None or (link.key_id is not None and self._directory.key(link.key_id) is None):
            self._failures.count(address)
            raise unauthorized("This link has expired or was revoked: ask for a new one.", "link_invalid")
        return Caller(
            link.tenant,
            frozenset({Scope.JOBS_READ}),
            Priority.LOW,
            actor=f"link {str(link.id)[:8]} of {link.created_by}",
            job_id=link.job_id,
            link=link,
        )

    def _maker(self, credential: str) -> Caller | None:
        """The caller that made a token, as long as its key works."""
        for bootstrap in self._environment.values():
            if bootstrap.credential == credential:
                return bootstrap
        try:
            known = self._directory.key(uuid.UUID(credential))
        except ValueError:
            return None
        return None if known is None else caller_of(known)

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
    return Caller(
        key.tenant,
        key.scopes,
        key.max_priority,
        actor=f"{key.name} ({key.prefix})",
        key_id=key.id,
        credential=str(key.id),
    )


def unauthorized(detail: str, code: str = "unauthorized") -> Problem:
    return Problem(401, code, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _bootstrap(grant: str | ApiKey, digest: bytes) -> Caller:
    """The caller with a key of the environment: whoever sets that runs the server."""
    tenant, priority = (grant, "normal") if isinstance(grant, str) else (grant.tenant, grant.max_priority)
    return Caller(
        tenant,
        ALL_SCOPES,
        Priority(priority),
        actor="environment",
        operator=True,
        credential=f"env:{digest[:12].hex()}",
    )
