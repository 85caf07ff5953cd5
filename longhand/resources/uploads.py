"""Uploads that are resumed: large recordings, and whatever should survive the end of a process."""

from __future__ import annotations

import os
from typing import cast

from longhand import uploading
from longhand.api import path
from longhand.errors import LonghandError
from longhand.files import OnProgress, Source
from longhand.operations import Resource, TransportT, operation
from longhand.types import Upload


class Uploads(Resource[TransportT]):
    @operation
    async def create(
        self,
        recording: str | os.PathLike[str] | bytes,
        *,
        filename: str | None = None,
        sha256: str | None = None,
    ) -> Upload:
        """Begin an upload without sending anything yet: note its id, and :meth:`send` it in any process.

        ``sha256`` (hexadecimal) has the server check what arrived.
        """
        upload = await uploading.create(self._api, Source(recording, filename), sha256)
        if upload is None:
            raise LonghandError("This server takes no uploads piece by piece.")
        return upload

    @operation
    async def send(
        self,
        upload_id: str,
        recording: str | os.PathLike[str] | bytes,
        *,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Send what the server does not have yet, and complete it; ``jobs.submit_upload`` makes its job."""
        upload = cast(Upload, await self._api.json("GET", path("uploads", upload_id)))
        if upload["status"] != "receiving":
            return upload
        return await uploading.send(self._api, upload, Source(recording), on_progress)

    @operation
    async def get(self, upload_id: str) -> Upload:
        return cast(Upload, await self._api.json("GET", path("uploads", upload_id)))

    @operation
    async def delete(self, upload_id: str) -> None:
        """Forget an upload that no job was made of."""
        await self._api.call("DELETE", path("uploads", upload_id), headers=uploading.TUS)
