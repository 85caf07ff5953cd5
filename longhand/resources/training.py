"""Exports of training data, fine-tunings, and the versions of models that come of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from longhand.api import Api, path
from longhand.downloads import download
from longhand.errors import JobFailed
from longhand.operations import Resource, TransportT, operation, stream
from longhand.types import Export, FineTune, Version, VersionsReport


async def _finished(api: Api, url: str, what: str, timeout: float | None) -> Any:
    found = await api.until(
        lambda: api.json("GET", url), lambda work: work["status"] not in ("queued", "processing"), timeout, what
    )
    if found["status"] != "completed":
        error = found["error"] or {"code": found["status"], "message": f"{what} was {found['status']}."}
        raise JobFailed(found, error["code"], error["message"])
    return found


class Exports(Resource[TransportT]):
    @operation
    async def create(
        self,
        *,
        date: str | None = None,
        since: str | None = None,
        until: str | None = None,
        dry_run: bool = False,
        filters: Mapping[str, object] | None = None,
        cleaning: Mapping[str, object] | None = None,
    ) -> Export:
        """Make training data of a day (ISO 8601, in UTC), or of a span; of yesterday if nothing is said."""
        span = {"date": date, "since": since, "until": until}
        body: dict[str, object] = {name: value for name, value in span.items() if value is not None}
        body |= {"dry_run": dry_run, "filters": dict(filters or {}), "cleaning": dict(cleaning or {})}
        return cast(Export, await self._api.json("POST", "/v1/exports", json=body))

    @operation
    async def wait(self, export_id: str, *, timeout: float | None = None) -> Export:
        """The export once it is completed. Raises JobFailed, or WaitTimeout after ``timeout`` seconds."""
        url = path("exports", export_id)
        return cast(Export, await _finished(self._api, url, f"Export {export_id}", timeout))

    @stream
    def list(self, *, limit: int = 20) -> AsyncIterator[Export]:
        """The newest, 100 at most."""
        return self._api.pages("/v1/exports", limit=limit)

    @operation
    async def get(self, export_id: str) -> Export:
        return cast(Export, await self._api.json("GET", path("exports", export_id)))

    @operation
    async def download(self, export_id: str, file: str, target: str | os.PathLike[str]) -> Path:
        """Write one of the files that its manifest names to ``target``, which is there once it is whole."""
        return await download(self._api, f"{path('exports', export_id, 'files')}/{quote(file)}", target)

    @operation
    async def delete(self, export_id: str) -> None:
        """Remove it with its files."""
        await self._api.call("DELETE", path("exports", export_id))


class FineTunes(Resource[TransportT]):
    @operation
    async def create(
        self,
        *,
        role: Literal["draft", "refined"] = "draft",
        exports: list[str] | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_seconds: float | None = None,
        frozen: int | None = None,
    ) -> FineTune:
        """Train the draft or refine model on exports, or on those that are new."""
        given = {
            "role": role,
            "exports": exports,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_seconds": batch_seconds,
            "frozen": frozen,
        }
        body = {name: value for name, value in given.items() if value is not None}
        return cast(FineTune, await self._api.json("POST", "/v1/finetunes", json=body))

    @operation
    async def wait(self, finetune_id: str, *, timeout: float | None = None) -> FineTune:
        """The fine-tuning once it is completed. Raises JobFailed, or WaitTimeout after ``timeout`` seconds."""
        url = path("finetunes", finetune_id)
        return cast(FineTune, await _finished(self._api, url, f"Fine-tuning {finetune_id}", timeout))

    @stream
    def list(self, *, limit: int = 20) -> AsyncIterator[FineTune]:
        """The newest, 100 at most."""
        return self._api.pages("/v1/finetunes", limit=limit)

    @operation
    async def get(self, finetune_id: str) -> FineTune:
        return cast(FineTune, await self._api.json("GET", path("finetunes", finetune_id)))

    @operation
    async def cancel(self, finetune_id: str) -> FineTune:
        return cast(FineTune, await self._api.json("POST", path("finetunes", finetune_id, "cancel")))


class Versions(Resource[TransportT]):
    @stream
    async def list(self) -> AsyncIterator[Version]:
        """All, newest first."""
        for version in (await self._api.json("GET", "/v1/model-versions"))["data"]:
            yield version

    @operation
    async def get(self, version_id: str) -> Version:
        return cast(Version, await self._api.json("GET", path("model-versions", version_id)))

    @operation
    async def report(self, *, weeks: int = 12) -> VersionsReport:
        """Error rates of corrected recordings by week, voice and language; what was learnt; and what it cost."""
        query = {"weeks": weeks}
        return cast(VersionsReport, await self._api.json("GET", "/v1/model-versions/report", params=query))

    @operation
    async def promote(self, version_id: str) -> Version:
        """Have it draft, or refine, all new jobs."""
        return cast(Version, await self._api.json("POST", path("model-versions", version_id, "promote")))

    @operation
    async def roll_back(self, version_id: str) -> Version:
        """Give it no more jobs."""
        return cast(Version, await self._api.json("POST", path("model-versions", version_id, "rollback")))
