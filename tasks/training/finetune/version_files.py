"""The files of model versions in S3: the export that serves, and the original that is tuned further."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from db.models import Json
from db.objects.storage import ObjectMissing
from db.training import versions
from speech.models.catalogue import sha256
from tasks.errors import Broken
from tasks.runtime import Runtime


def upload(runtime: Runtime, version_id: uuid.UUID, export: Path, original: Path | None) -> Json:
    """Store both folders. Returns sha256 and bytes by path below the version's prefix."""
    files: Json = {}
    for prefix, folder in (("export/", export), ("original/", original)):
        for path in sorted(folder.iterdir()) if folder is not None else ():
            if path.is_file():
                runtime.storage.upload(f"{versions.prefix(version_id)}{prefix}{path.name}", path)
                files[prefix + path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    return files


def download(runtime: Runtime, version_id: uuid.UUID, files: Json, prefix: str, folder: Path) -> None:
    """Fetch the files whose paths start with ``prefix`` and check their hashes. Raises Broken."""
    for path, expected in files.items():
        if not path.startswith(prefix):
            continue
        target = folder / path.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_bytes(runtime.storage.get(versions.prefix(version_id) + path))
        except ObjectMissing as error:
            raise Broken("version_files_missing", f"{path} of version {version_id} is gone.") from error
        if sha256(target) != expected["sha256"]:
            raise Broken("version_files_damaged", f"{path} of version {version_id} has another hash.")


def delete(runtime: Runtime, version_id: uuid.UUID, paths: Iterable[str]) -> None:
    runtime.storage.delete(versions.prefix(version_id) + path for path in paths)
