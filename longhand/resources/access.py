"""Who may do what, how much of it, and who did: keys, tokens, tenants, quotas, usage, queues and the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from longhand.api import path
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import AuditEntry, Key, NewKey, Priority, QueueReport, Tenant, Token, UsageReport


class Keys(Resource[TransportT]):
    @operation
    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str | None = None,
        expires_in: float | None = None,
        max_priority: Priority = "normal",
    ) -> NewKey:
        """Make a key; ``expires_in`` in seconds. The answer is the only place where it can be read."""
        body = {
            "name": name,
            "scopes": [*scopes],
            "tenant": tenant,
            "expires_in": expires_in,
            "max_priority": max_priority,
        }
        return cast(NewKey, await self._api.json("POST", "/v1/keys", json=body))

    @stream
    def list(self, *, tenant: str | None = None, limit: int | None = None) -> AsyncIterator[Key]:
        """Keys, newest first: all of them, or ``limit``."""
        return self._api.pages("/v1/keys", limit=limit, params={"tenant": tenant})

    @operation
    async def get(self, key_id: str) -> Key:
        return cast(Key, await self._api.json("GET", path("keys", key_id)))

    @operation
    async def revoke(self, key_id: str) -> None:
        """End it: a second later it works nowhere."""
        await self._api.call("DELETE", path("keys", key_id))

    @operation
    async def rotate(self, key_id: str, *, grace_seconds: float = 0) -> NewKey:
        """A new key with the same rights; the old one ends after ``grace_seconds``."""
        body = {"grace_seconds": grace_seconds}
        return cast(NewKey, await self._api.json("POST", path("keys", key_id, "rotate"), json=body))


class Tokens(Resource[TransportT]):
    @operation
    async def create(
        self, scopes: Sequence[str] = ("jobs:read",), *, job_id: str | None = None, seconds: int | None = None
    ) -> Token:
        """A short-lived token with a part of the key's scopes; for one job alone with ``job_id``."""
        body: dict[str, Any] = {"scopes": [*scopes], "job_id": job_id}
        if seconds is not None:
            body["seconds"] = seconds
        # one more that nobody has does no harm
        return cast(Token, await self._api.json("POST", "/v1/tokens", json=body, again=True))


class Tenants(Resource[TransportT]):
    @operation
    async def own(self) -> Tenant:
        """The key's own tenant: its quotas, and what is used of each."""
        return cast(Tenant, await self._api.json("GET", "/v1/quotas"))

    @stream
    def list(self, *, limit: int | None = None) -> AsyncIterator[Tenant]:
        """Tenants by name: all of them, or ``limit``."""
        return self._api.pages("/v1/tenants", limit=limit, cursor="after")

    @operation
    async def get(self, name: str) -> Tenant:
        return cast(Tenant, await self._api.json("GET", path("tenants", name)))

    @operation
    async def change(self, name: str, change: Mapping[str, object]) -> Tenant:
        """Set some of its limits. What is None is up to the server's settings; what is left out stays."""
        return cast(Tenant, await self._api.json("PATCH", path("tenants", name), json=dict(change), again=True))

    @operation
    async def replace(self, name: str, limits: Mapping[str, object]) -> Tenant:
        """Set all of its limits. What is left out is up to the server's settings."""
        return cast(Tenant, await self._api.json("PUT", path("tenants", name), json=dict(limits)))


class Queues(Resource[TransportT]):
    @operation
    async def show(self, *, measure: bool = False) -> QueueReport:
        """What waits and who works; with ``measure`` what the latest recordings have cost."""
        return cast(QueueReport, await self._api.json("GET", "/v1/queues", params={"measure": measure or None}))


class Usage(Resource[TransportT]):
    @operation
    async def report(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        group_by: Sequence[str] = ("day",),
        tenant: str | None = None,
    ) -> UsageReport:
        """How much audio was processed from the ``first`` day (ISO 8601, in UTC) to the ``last``, included."""
        params = {"from": first, "to": last, "group_by": [*group_by], "tenant": tenant}
        return cast(UsageReport, await self._api.json("GET", "/v1/usage", params=params))

    @operation
    async def csv(
        self,
        *,
        first: str | None = None,
        last: str | None = None,
        group_by: Sequence[str] = ("day",),
        tenant: str | None = None,
    ) -> str:
        """The same as CSV, with exact figures."""
        params = {"from": first, "to": last, "group_by": [*group_by], "tenant": tenant, "format": "csv"}
        return (await self._api.call("GET", "/v1/usage", params=params)).text


class Audit(Resource[TransportT]):
    @stream
    def list(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """Who did what, newest first. ``actor`` and ``action`` are beginnings, times ISO 8601 with an offset."""
        params = {"from": since, "to": until, "actor": actor, "action": action, "target": target}
        return self._api.pages("/v1/audit", limit=limit, size=1000, params=params)

    @stream
    async def csv(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
    ) -> AsyncIterator[str]:
        """The same as CSV, page by page; the first begins with the headings."""
        params: dict[str, Any] | None = {
            **{"from": since, "to": until, "actor": actor, "action": action, "target": target},
            **{"format": "csv", "limit": 1000},
        }
        url: str | None = "/v1/audit"
        while url is not None:
            page = await self._api.call("GET", url, params=params)
            yield page.text if params else page.text.partition("\n")[2]
            url, params = page.links.get("next", {}).get("url"), None
