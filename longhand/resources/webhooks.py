"""Webhooks: where a tenant's events are sent, and what became of each delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

from longhand.api import path
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Delivery, NewWebhook, Webhook


class Webhooks(Resource[TransportT]):
    @operation
    async def create(self, url: str, events: Sequence[str], *, description: str | None = None) -> NewWebhook:
        """Send events of all jobs to an address. The answer is the only place where its secret can be read."""
        body = {"url": url, "events": [*events], "description": description}
        return cast(NewWebhook, await self._api.json("POST", "/v1/webhooks", json=body))

    @stream
    async def list(self) -> AsyncIterator[Webhook]:
        for webhook in (await self._api.json("GET", "/v1/webhooks"))["data"]:
            yield webhook

    @operation
    async def get(self, webhook_id: str) -> Webhook:
        return cast(Webhook, await self._api.json("GET", path("webhooks", webhook_id)))

    @operation
    async def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        disabled: bool | None = None,
    ) -> Webhook:
        """Change some of it. ``disabled=False`` also forgets that it was failing."""
        given = {"url": url, "events": events and [*events], "description": description, "disabled": disabled}
        body = {name: value for name, value in given.items() if value is not None}
        return cast(Webhook, await self._api.json("PATCH", path("webhooks", webhook_id), json=body, again=True))

    @operation
    async def delete(self, webhook_id: str) -> None:
        """Forget it with its secrets and deliveries."""
        await self._api.call("DELETE", path("webhooks", webhook_id))

    @operation
    async def rotate_secret(self, webhook_id: str, *, grace_seconds: float = 86_400) -> str:
        """A new secret; the old one signs beside it for ``grace_seconds``."""
        return await self._rotated(path("webhooks", webhook_id, "rotate"), grace_seconds)

    @operation
    async def rotate_tenant_secret(self, *, grace_seconds: float = 86_400) -> str:
        """A new secret of the tenant, which signs what is sent to the ``webhook`` of a job."""
        return await self._rotated("/v1/webhooks/secret", grace_seconds)

    async def _rotated(self, url: str, grace_seconds: float) -> str:
        made = await self._api.json("POST", url, json={"grace_seconds": grace_seconds})
        return str(made["secret"])

    @operation
    async def test(self, webhook_id: str) -> Delivery:
        """Send `webhook.test`, once; what became of it is among the deliveries."""
        return cast(Delivery, await self._api.json("POST", path("webhooks", webhook_id, "test")))

    @stream
    def deliveries(
        self, webhook_id: str, *, job_id: str | None = None, state: str | None = None, limit: int | None = None
    ) -> AsyncIterator[Delivery]:
        """Deliveries to a webhook, newest first: all of them, or ``limit``."""
        params = {"job_id": job_id, "state": state}
        return self._api.pages(path("webhooks", webhook_id, "deliveries"), limit=limit, params=params)

    @stream
    def job_deliveries(self, job_id: str, *, limit: int | None = None) -> AsyncIterator[Delivery]:
        """Deliveries to the address that the job itself names, newest first."""
        return self._api.pages(path("jobs", job_id, "deliveries"), limit=limit)

    @operation
    async def redeliver(self, delivery_id: str) -> Delivery:
        """Deliver once more, now, under the same id."""
        return cast(Delivery, await self._api.json("POST", path("deliveries", delivery_id, "redeliver")))
