"""The sweep: removes objects in S3 that no row refers to, and sums up what has been counted."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta
from itertools import groupby

from db import live, uploads
from db.access import quotas
from db.models import Export, Job, ModelVersion
from db.objects import named
from db.objects.storage import StorageError
from tasks.errors import BackupUnderWay
from tasks.maintenance.failures import logging_failures
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
        with runtime.sessions() as session:
            kept, prefix = named.of_job(session, job, old)
        orphans = [key for key in old if key not in kept and not (prefix and key.startswith(prefix))]
        if orphans:
            logger.info("sweeping %d orphans of job %s", len(orphans), job)
            try:
                runtime.remove(orphans)
            except (*StorageError, BackupUnderWay) as error:
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
                with logging_failures(f"sweep {prefix}{'/'.join(folder)}"):
                    runtime.remove(key for key, written in group if written < before)
