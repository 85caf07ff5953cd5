"""The sweep: removes objects in S3 that no row refers to, and sums up what has been counted."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import func, select

from db import jobs, live, rounds, uploads
from db.access import quotas
from db.models import Export, Job, ModelVersion
from db.objects import named
from db.objects.storage import StorageError, job_prefix
from db.rounds import ClaimedRound
from tasks.errors import BackupUnderWay
from tasks.maintenance.failures import logging_failures
from tasks.maintenance.meanings import read_more
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


WEEK = timedelta(days=7)
FOLDERS = 256
"""Parts of all jobs, by the first two digits of their ids."""

HEARTBEAT_SECONDS = 60.0
"""Between two renewals of the right to sweep."""


def sweep_next(runtime: Runtime) -> None:
    """What is due since the last sweep: jobs that have ended, and the next folders, so that a week sees them all.

    Does nothing while another process sweeps. What it does not get to is left for the next.
    """
    try:
        with rounds.claimed(runtime.sessions, rounds.SWEEP) as turn:
            if turn is None:
                logger.info("another sweep is under way")
            elif turn.until - turn.since >= WEEK:
                sweep(runtime, heartbeat=turn.advance)
                turn.advance(turn.until)
            else:
                _sweep_since(runtime, turn)
    except rounds.RoundLost:
        logger.warning("the sweep took too long, and another has begun")


def sweep(
    runtime: Runtime,
    grace: timedelta = GRACE,
    upload_grace: timedelta = UPLOAD_GRACE,
    heartbeat: Callable[[], None] = lambda: None,
) -> None:
    """Remove all objects that a crash between writing and committing left behind, and what is past its time."""
    sweeper = _Sweeper(runtime, grace, upload_grace, heartbeat)
    _tidy_rows(runtime)
    sweeper.abort_uploads()
    sweeper.sweep("jobs/")
    sweeper.sweep_training()


def _sweep_since(runtime: Runtime, turn: ClaimedRound) -> None:
    sweeper = _Sweeper(runtime, GRACE, UPLOAD_GRACE, turn.advance)
    forgotten = _tidy_rows(runtime)
    sweeper.abort_uploads()
    with runtime.sessions() as session:
        # what a job has left behind is old enough then
        ended = jobs.ended_between(session, turn.since - GRACE, turn.until - GRACE)
    for job_id in (*forgotten, *ended):
        sweeper.sweep(job_prefix(job_id))
    for folder in range(_folders_until(turn.since), _folders_until(turn.until)):
        sweeper.sweep(f"jobs/{folder % FOLDERS:02x}")
        if folder % FOLDERS == 0:
            sweeper.sweep_training()
    turn.advance(turn.until)


def _folders_until(moment: datetime) -> int:
    """How many folders have been due until then, at regular times."""
    return int(moment.timestamp() * FOLDERS / WEEK.total_seconds())


def _tidy_rows(runtime: Runtime) -> Sequence[uuid.UUID]:
    """Remove rows past their time. Returns the uploads whose pieces nothing refers to any more."""
    erase_expired(runtime)
    finish_erasures(runtime)
    delete_old_audit_entries(runtime)
    delete_old_deliveries(runtime)
    read_more(runtime)
    with runtime.sessions.begin() as session:
        quotas.sum_up(session)
        expired = uploads.delete_expired(session)
        fetched, spoken = uploads.fetched(session), live.put_together(session)
    for upload_id in expired:
        logger.info("upload %s has expired", upload_id)
    for done in fetched:
        uploads.tidy(runtime.sessions, runtime.storage, done)
    for done in spoken:
        live.tidy(runtime.sessions, runtime.storage, done)
    return expired


class _Sweeper:
    """Removes objects that nothing refers to and that are older than their grace."""

    def __init__(
        self, runtime: Runtime, grace: timedelta, upload_grace: timedelta, heartbeat: Callable[[], None]
    ) -> None:
        self._runtime, self._grace, self._upload_grace = runtime, grace, upload_grace
        with runtime.sessions() as session:
            # of Postgres: this host's may be wrong by more than any grace
            self._now = session.scalars(select(func.now())).one()
        self._heartbeat, self._beat_at = heartbeat, time.monotonic()

    def abort_uploads(self) -> None:
        storage = self._runtime.storage
        for key, upload_id in storage.stale_uploads(self._now - self._upload_grace):
            logger.info("aborting an unfinished upload of %s", key)
            storage.client.abort_multipart_upload(Bucket=storage.bucket, Key=key, UploadId=upload_id)

    def sweep(self, prefix: str) -> None:
        """Of jobs."""
        for job, objects in groupby(self._runtime.storage.list(prefix), key=lambda item: item[0].split("/")[1]):
            self._stay_alive()
            old = [key for key, written in objects if written < self._now - self._grace_of(key)]
            if not old:
                continue
            with self._runtime.sessions() as session:
                kept, transcript = named.of_job(session, job, old)
            orphans = [key for key in old if key not in kept and not (transcript and key.startswith(transcript))]
            if orphans:
                logger.info("sweeping %d orphans of job %s", len(orphans), job)
                try:
                    self._runtime.remove(orphans)
                except (*StorageError, BackupUnderWay) as error:
                    logger.warning("could not sweep job %s: %s", job, error)

    def sweep_training(self) -> None:
        """Remove files of exports and model versions that have no row."""
        before = self._now - self._upload_grace
        for prefix, model, depth in (("exports/", Export, 2), ("models/", ModelVersion, 1)):
            objects = self._runtime.storage.list(prefix)
            for folder, group in groupby(objects, key=lambda item: item[0].split("/")[1 : depth + 1]):
                self._stay_alive()
                try:
                    row_id = uuid.UUID(folder[-1])
                except ValueError:  # no id: not written by us
                    continue
                with self._runtime.sessions() as session:
                    row, job = session.get(model, row_id), session.get(Job, row_id)
                # what a worker wrote that was at it when the export was deleted
                if row is None or (job is not None and job.deleted_at is not None):
                    with logging_failures(f"sweep {prefix}{'/'.join(folder)}"):
                        self._runtime.remove(key for key, written in group if written < before)

    def _grace_of(self, key: str) -> timedelta:
        if uploads.is_planned(key):
            # its row was there first, so that nobody commits it later
            return timedelta(0)
        return self._upload_grace if uploads.is_piece(key) else self._grace

    def _stay_alive(self) -> None:
        if time.monotonic() - self._beat_at > HEARTBEAT_SECONDS:
            self._beat_at = time.monotonic()
            self._heartbeat()
