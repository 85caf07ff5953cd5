"""fetch: gets a recording that was named by its address, and stores it as if it had been uploaded."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db.models import Job, StepKind
from db.objects.storage import StorageError, job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.sources import Source, SourceKind, SourceNotAllowed, parse_source, shown_address
from tasks import flow
from tasks.errors import LeaseLost, Permanent
from tasks.fetch.bucket import read_object
from tasks.fetch.folder import read_file
from tasks.fetch.web import download, too_large
from tasks.handler import Handler, Work
from tasks.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Fetched:
    """A stored recording."""

    key: str
    bytes: int
    sha256: str


def work(claims: Sequence[Claim], work: Work) -> list[Fetched]:
    """Stream the recording to storage, with no more of it in memory than one part."""
    (claim,) = claims
    runtime, settings = work.runtime, work.runtime.settings
    source = _source(runtime, claim.job_id)
    # the fence in the key keeps a late worker from overwriting what its successor committed
    key = f"{job_prefix(claim.job_id)}source-{claim.fence}"
    writer = runtime.storage.writer(key, "application/octet-stream")
    try:
        for block in _read(runtime, source):
            work.lease.check(claim)
            if writer.size + len(block) > settings.max_upload_bytes:
                raise too_large(settings)
            if writer.accept(block):
                writer.flush()
        if not writer.size:
            raise Permanent("url_empty", "What was fetched holds no bytes.")
        writer.close()
    except BaseException:
        # what cannot be removed now, the sweep removes
        with contextlib.suppress(*StorageError):
            writer.abort()
        raise
    return [Fetched(key, writer.size, writer.sha256)]


def _source(runtime: Runtime, job_id: uuid.UUID) -> Source:
    with runtime.sessions() as session:
        address = session.scalar(select(Job.source_url).where(Job.id == job_id))
    if address is None:
        raise LeaseLost(f"job {job_id} was deleted")
    try:
        return parse_source(address, runtime.settings)
    except SourceNotAllowed as error:
        raise Permanent(error.code, str(error)) from error


def _read(runtime: Runtime, source: Source) -> Iterator[bytes]:
    settings = runtime.settings
    match source.kind:
        case SourceKind.HTTP:
            return download(source.address, settings)
        case SourceKind.S3:
            return read_object(runtime.storage, source.bucket, source.key, settings)
        case SourceKind.FILE:
            assert settings.local_folder is not None  # noqa: S101  (the source would not be allowed)
            return read_file(settings.local_folder, source.path)


def commit(tx: JobTransaction, claim: Claim, output: Fetched) -> Mapping[str, Any]:
    job = tx.job
    job.source_key, job.bytes, job.sha256 = output.key, output.bytes, output.sha256
    # its credentials are of no more use
    job.source_url = shown_address(job.source_url or "")
    flow.finish_fetch(tx)
    return {"bytes": output.bytes}


def discard(runtime: Runtime, output: Fetched) -> None:
    runtime.storage.delete([output.key])


handler = Handler(StepKind.FETCH, work, commit, deadline=5 * 3600, discard=discard)
