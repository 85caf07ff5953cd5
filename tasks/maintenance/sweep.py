"""The sweep: removes objects in S3 that no row refers to, and sums up what has been counted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from sqlalchemy import select

from db import live, uploads
from db.access import quotas
from db.models import Chunk, Export, Job, ModelVersion, Step, StepKind
from db.objects.storage import StorageError
from tasks.maintenance.retention import (
    delete_old_audit_entries,
    delete_old_deliveries,
    erase_expired,
    finish_erasures,
)
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)

GRACE = timedelta(hours=1)
"""Younger objects may belong to a request or step that has not committed yet."""

UPLOAD_GRACE = timedelta(hours=24)
"""The same for uploads, which can take long, and for training."""


def sweep(runtime: Runtime, grace: timedelta = GRACE, upload_grace: timedelta = UPLOAD_GRACE) -> None:
    """Remove objects that a crash between writing and committing left behind."""
    erase_expired(runtime)
    finish_erasures(runtime)
    delete_old_audit_entries(runtime)
    delete_old_deliveries(runtime)
    with runtime.sessions.begin() as session:
        quotas.sum_up(session)
        for expired in uploads.delete_expired(session):
            logger.info("upload %s has expired", expired)
        fetched, spoken = uploads.fetched(session), live.put_together(session)
    for done in fetched:
        uploads.tidy(runtime.sessions, runtime.storage, done)
    for done in spoken:
        live.tidy(runtime.sessions, runtime.storage, done)
    storage, now = runtime.storage, datetime.now(UTC)
    for key, upload_id in storage.stale_uploads(now - upload_grace):
        logger.info("aborting an unfinished upload of %s", key)
        storage.client.abort_multipart_upload(Bucket=storage.bucket, Key=key, UploadId=upload_id)
    for job, objects in groupby(storage.list("jobs/"), key=lambda item: item[0].split("/")[1]):
        old = [key for key, written in objects if written < now - _grace(key, grace, upload_grace)]
        if not old:
            continue
        kept, prefix = referenced(runtime, job, old)
        orphans = [key for key in old if key not in kept and not (prefix and key.startswith(prefix))]
        if orphans:
            logger.info("sweeping %d orphans of job %s", len(orphans), job)
            try:
                storage.delete(orphans)
            except StorageError as error:
                logger.warning("could not sweep job %s: %s", job, error)

    _sweep_training(runtime, now - upload_grace)


def _grace(key: str, grace: timedelta, upload_grace: timedelta) -> timedelta:
    if uploads.is_planned(key):
        # its row was there first, so that nobody commits it later
        return timedelta(0)
    return upload_grace if uploads.is_piece(key) else grace


def _sweep_training(runtime: Runtime, before: datetime) -> None:
    """Remove files of exports and model versions that have no row."""
    for prefix, model, depth in (("exports/", Export, 2), ("models/", ModelVersion, 1)):
        objects = runtime.storage.list(prefix)
        for folder, group in groupby(objects, key=lambda item: item[0].split("/")[1 : depth + 1]):
            try:
                row_id = uuid.UUID(folder[-1])
            except ValueError:  # no id: not written by us
                continue
            with runtime.sessions() as session:
                row, job = session.get(model, row_id), session.get(Job, row_id)
            # what a worker wrote that was at it when the export was deleted
            if row is None or (job is not None and job.deleted_at is not None):
                logger.info("sweeping %s%s", prefix, "/".join(folder))
                runtime.storage.delete(key for key, written in group if written < before)


def referenced(runtime: Runtime, job: str, keys: Sequence[str]) -> tuple[set[str], str | None]:
    """The keys that a job's rows refer to, and the prefix of its transcript.

    Of ``keys``, those that uploads and live sessions refer to.

    Empty and None for a deleted job.
    """
    try:
        job_id = uuid.UUID(job)
    except ValueError:
        return set(), None
    with runtime.sessions() as session:
        pieces = uploads.counted(session, [key for key in keys if uploads.is_piece(key)])
        pieces |= live.counted(session, [key for key in keys if live.is_piece(key)])
        row = session.execute(
            select(Job.source_key, Job.peaks_key, Job.rendition_key, Job.transcript_prefix).where(Job.id == job_id)
        ).one_or_none()
        if row is None:
            return pieces, None
        chunks = session.scalars(select(Chunk.key).where(Chunk.job_id == job_id))
        diarizations = session.scalars(
            select(Step.result["key"].astext).where(Step.job_id == job_id, Step.kind == StepKind.DIARIZE)
        )
        keys = row.source_key, row.peaks_key, row.rendition_key, *pieces, *chunks, *diarizations
        return set(filter(None, keys)), row.transcript_prefix
