"""fetch: stores a recording as one object: by its address, or of the pieces of an upload or a live session."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db import live, uploads
from db.models import Job, LiveSession, StepKind, Upload
from db.objects.storage import StorageError, job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.sources import Source, SourceKind, SourceNotAllowed, parse_source, shown_address
from tasks import flow
from tasks.errors import LeaseLost, Permanent
from tasks.fetch.address import Recording, read_address
from tasks.fetch.bucket import read_object
from tasks.fetch.folder import read_file
from tasks.fetch.live import read_live
from tasks.fetch.upload import changed, read_upload
from tasks.fetch.web import too_large
from tasks.handler import Handler, Work
from tasks.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Fetched:
    """A stored recording."""

    key: str
    bytes: int
    sha256: str
    upload_id: uuid.UUID | None = None
    """Of what it was put together from."""
    live_id: uuid.UUID | None = None
    """The same, where that is a live session."""
    filename: str | None = None
    """Where it is called otherwise than its address says."""


def work(claims: Sequence[Claim], work: Work) -> list[Fetched]:
    """Stream the recording to storage, with no more of it in memory than one part."""
    (claim,) = claims
    runtime, settings = work.runtime, work.runtime.settings
    with runtime.sessions() as session:
        upload, pieces = session.get(Upload, claim.job_id), uploads.parts(session, claim.job_id)
        spoken, heard = session.get(LiveSession, claim.job_id), live.pieces(session, claim.job_id)
        name = session.scalar(select(Job.filename).where(Job.id == claim.job_id))
    if upload is not None:
        recording = Recording(read_upload(runtime.storage, pieces))
    elif spoken is not None:
        recording = read_live(runtime.storage, heard, name or "", settings)
    else:
        recording = _read(runtime, claim.job_id)
    # the fence in the key keeps a late worker from overwriting what its successor committed
    key = f"{job_prefix(claim.job_id)}source-{claim.fence}"
    writer = runtime.storage.writer(key, "application/octet-stream")
    try:
        for block in recording.blocks:
            work.lease.check(claim)
            # a live session was bounded by its length while it lasted
            if spoken is None and writer.size + len(block) > settings.max_upload_bytes:
                raise too_large(settings)
            if writer.accept(block):
                writer.flush()
        if not writer.size:
            raise Permanent("url_empty", "What was fetched holds no bytes.")
        if upload is not None and upload.sha256 not in (None, writer.sha256):
            raise changed()
        writer.close()
    except BaseException:
        # what cannot be removed now, the sweep removes
        with contextlib.suppress(*StorageError):
            writer.abort()
        raise
    return [
        Fetched(
            key,
            writer.size,
            writer.sha256,
            upload_id=upload.id if upload else None,
            live_id=spoken.job_id if spoken else None,
            filename=recording.filename,
        )
    ]


def _source(runtime: Runtime, job_id: uuid.UUID) -> Source:
    with runtime.sessions() as session:
        address = session.scalar(select(Job.source_url).where(Job.id == job_id))
    if address is None:
        raise LeaseLost(f"job {job_id} was deleted")
    try:
        return parse_source(address, runtime.settings)
    except SourceNotAllowed as error:
        raise Permanent(error.code, str(error)) from error


def _read(runtime: Runtime, job_id: uuid.UUID) -> Recording:
    source, settings = _source(runtime, job_id), runtime.settings
    match source.kind:
        case SourceKind.HTTP:
            return read_address(source.address, settings)
        case SourceKind.S3:
            return Recording(read_object(runtime.storage, source.bucket, source.key, settings))
        case SourceKind.FILE:
            assert settings.local_folder is not None  # noqa: S101  (the source would not be allowed)
            return Recording(read_file(settings.local_folder, source.path))


def commit(tx: JobTransaction, claim: Claim, output: Fetched) -> Mapping[str, Any]:
    job = tx.job
    job.source_key, job.bytes, job.sha256 = output.key, output.bytes, output.sha256
    if output.filename is not None:
        job.filename = output.filename
    if job.source_url is not None:
        # its credentials are of no more use
        job.source_url = shown_address(job.source_url)
    flow.finish_fetch(tx)
    return {"bytes": output.bytes}


def discard(runtime: Runtime, output: Fetched) -> None:
    runtime.storage.delete([output.key])


def tidy(runtime: Runtime, output: Fetched) -> None:
    if output.upload_id is not None:
        uploads.tidy(runtime.sessions, runtime.storage, output.upload_id)
    if output.live_id is not None:
        live.tidy(runtime.sessions, runtime.storage, output.live_id)


handler = Handler(StepKind.FETCH, work, commit, deadline=5 * 3600, discard=discard, tidy=tidy)
