"""The two clients: the same resources, called in blocking and in asynchronous code."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Self

import httpx

from longhand.api import Api
from longhand.operations import TransportT
from longhand.resources.access import Audit, Keys, Queues, Tenants, Tokens, Usage
from longhand.resources.erasures import Erasures
from longhand.resources.jobs import Jobs
from longhand.resources.library import Collections, Searches
from longhand.resources.readings import Readings
from longhand.resources.search import Search
from longhand.resources.training import Exports, FineTunes, Versions
from longhand.resources.uploads import Uploads
from longhand.resources.vocabulary import Vocabulary
from longhand.resources.voices import Voices
from longhand.resources.webhooks import Webhooks
from longhand.transport import Awaiting, Blocking, run

LOCAL = "http://127.0.0.1:8000"

TIMEOUT_SECONDS = 40.0
"""Heartbeats of event streams come every 15 s: a connection silent for longer is dead."""

CONNECT_SECONDS = 5.0


class _Resources(Generic[TransportT]):
    def __init__(self, transport: TransportT, key: str | None, retries: int) -> None:
        api = Api(transport, key, retries)
        self._api = api
        self.jobs = Jobs(api, transport)
        self.search = Search(api, transport)
        self.searches = Searches(api, transport)
        self.collections = Collections(api, transport)
        self.uploads = Uploads(api, transport)
        self.voices = Voices(api, transport)
        self.exports = Exports(api, transport)
        self.finetunes = FineTunes(api, transport)
        self.versions = Versions(api, transport)
        self.keys = Keys(api, transport)
        self.tokens = Tokens(api, transport)
        self.tenants = Tenants(api, transport)
        self.usage = Usage(api, transport)
        self.queues = Queues(api, transport)
        self.audit = Audit(api, transport)
        self.erasures = Erasures(api, transport)
        self.webhooks = Webhooks(api, transport)
        self.readings = Readings(api, transport)
        self.vocabulary = Vocabulary(api, transport)


class Client(_Resources[Blocking]):
    """A blocking client of one server. Threads may share it.

    ``retries``: how often what does no harm when repeated is tried again, after growing pauses.
    ``timeout``: seconds without a byte after which a connection counts as dead. ``http`` takes the place of the
    client's own connections, for proxies, certificates and the like.
    """

    def __init__(
        self,
        url: str = LOCAL,
        key: str | None = None,
        *,
        retries: int = 4,
        timeout: float = TIMEOUT_SECONDS,
        http: httpx.Client | None = None,
    ) -> None:
        own: Any = {"base_url": url, "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS)}
        super().__init__(Blocking(http or httpx.Client(**own)), key, retries)

    def close(self) -> None:
        run(self._api.transport.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Resources[Awaiting]):
    """The same for an event loop: calls are awaited, lists and events come by ``async for``."""

    def __init__(
        self,
        url: str = LOCAL,
        key: str | None = None,
        *,
        retries: int = 4,
        timeout: float = TIMEOUT_SECONDS,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        own: Any = {"base_url": url, "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS)}
        super().__init__(Awaiting(http or httpx.AsyncClient(**own)), key, retries)

    async def close(self) -> None:
        await self._api.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
