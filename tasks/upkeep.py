"""Upkeep: purging deleted jobs, healing what crashed, sweeping what nobody refers to."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from redis.exceptions import RedisError
from sqlalchemy import Float, delete, func, select

from db import jobs, steps, training
from db.models import Chunk, Export, Job, JobPurpose, ModelVersion, Sample, Step, StepKind
from db.steps import Claim
from db.storage import StorageError, job_prefix
from db.transaction import JobGone, JobTransaction, job_transaction
from tasks import flow
from tasks.queue import QUEUES, ring
from tasks.runtime import Runtime
from tasks.step import Handler, Work, announce, expire

logger = logging.getLogger(__name__)

HINTS = 64
"""Most hints of one kind that a round of healing sends."""

GRACE = timedelta(hours=1)
"""Objects younger than this may belong to a request still under way."""

UPLOAD_GRACE = timedelta(hours=24)
"""The same for uploads in parts, which can take long."""


def purge(claims: Sequence[Claim], work: Work) -> list[None]:
    """Delete a job's objects; its rows go with the commit."""
    (claim,) = claims
    storage = work.runtime.storage
    with work.runtime.sessions() as session:
        made = session.get(Export, claim.job_id)
    for prefix in (job_prefix(claim.job_id), *([training.prefix(made)] if made else [])):
        storage.delete(key for key, _ in storage.list(prefix))
    return [None]


def _purged(tx: JobTransaction, claim: Claim, output: None) -> None:
    if tx.job.purpose == JobPurpose.EXPORT:
        # its row stays, hidden: a night that somebody has deleted is not to be exported again
        tx.session.execute(delete(Sample).where(Sample.export_id == claim.job_id))
    else:
        tx.session.execute(delete(Job).where(Job.id == claim.job_id))


purge_handler = Handler(StepKind.PURGE, purge, _purged, deadline=4 * 3600)


def heal(runtime: Runtime) -> None:
    """Settle steps whose worker went silent, and ring again for ready steps that have too few hints."""
    with runtime.sessions() as session:
        gone = steps.expired(session, runtime.settings)
    for claim in gone:
        expire(runtime, claim)
    with runtime.sessions.begin() as session:
        steps.let_go(session)
    degrade(runtime)
    with runtime.sessions() as session:
        waiting = {kind: steps.waiting(session, kind, HINTS) for kind in StepKind}
    try:
        for queue in sorted(set(QUEUES.values())):
            kinds = [kind for kind in StepKind if QUEUES[kind] == queue and waiting[kind]]
            # hints in the queue may be for any of its kinds; a few too many only find nothing to claim
            if kinds and runtime.bus.hints(queue) < sum(waiting[kind] for kind in kinds):
                ring(kind for kind in kinds for _ in range(waiting[kind]))
    except RedisError as error:
        logger.warning("could not ring: %s", error)


def degrade(runtime: Runtime) -> None:
    """Let drafts stand for chunks that have waited for refinement longer than their job allows."""
    # a chunk that is passed over lets the next one go, which may have waited as long
    while late := _overlong(runtime):
        for job_id, chunks in late.items():
            try:
                with job_transaction(runtime.sessions, job_id) as transaction:
                    for chunk in steps.skip(transaction.session, job_id, StepKind.REFINE, chunks):
                        transaction.job.degraded = True
                        flow.refined(transaction, chunk, heard=False)
            except JobGone:
                continue
            logger.warning("job %s: chunks %s waited too long for refinement; their drafts stand", job_id, chunks)
            announce(runtime, transaction)


def _overlong(runtime: Runtime) -> dict[uuid.UUID, list[int]]:
    with runtime.sessions() as session:
        return steps.overlong(session, runtime.settings.degrade_after)


def retire(runtime: Runtime) -> None:
    """Delete the jobs whose time is over."""
    days = func.coalesce(Job.options["retain_days"].astext.cast(Float), runtime.settings.retain_days)
    over = func.clock_timestamp() > Job.completed_at + func.make_interval(0, 0, 0, 0, 0, 0, days * 86400)
    with runtime.sessions() as session:
        late = session.scalars(select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION, over)).all()
    for job_id in late:
        try:
            with job_transaction(runtime.sessions, job_id) as transaction:
                transaction.job.deleted_at = func.now()
                transaction.enqueue(StepKind.PURGE)
        except JobGone:
            continue
        logger.info("job %s is past its time and deleted", job_id)
        announce(runtime, transaction)


def sweep(runtime: Runtime, grace: timedelta = GRACE, upload_grace: timedelta = UPLOAD_GRACE) -> None:
    """Remove objects that no row refers to, left by a crash between writing and committing."""
    retire(runtime)
    storage, now = runtime.storage, datetime.now(UTC)
    for key, upload_id in storage.stale_uploads(now - upload_grace):
        logger.info("aborting an unfinished upload of %s", key)
        storage.client.abort_multipart_upload(Bucket=storage.bucket, Key=key, UploadId=upload_id)
    for job, objects in groupby(storage.list("jobs/"), key=lambda item: item[0].split("/")[1]):
        old = [key for key, written in objects if written < now - grace]
        if not old:
            continue
        kept, prefix = referenced(runtime, job)
        orphans = [key for key in old if key not in kept and not (prefix and key.startswith(prefix))]
        if orphans:
            logger.info("sweeping %d orphans of job %s", len(orphans), job)
            try:
                storage.delete(orphans)
            except StorageError as error:
                logger.warning("could not sweep job %s: %s", job, error)

    _sweep_training(runtime, now - upload_grace)


def _sweep_training(runtime: Runtime, before: datetime) -> None:
    """Remove exports and model versions that have no row."""
    for below, model, depth in (("exports/", Export, 2), ("models/", ModelVersion, 1)):
        objects = runtime.storage.list(below)
        for folder, group in groupby(objects, key=lambda item: item[0].split("/")[1 : depth + 1]):
            try:
                row_id = uuid.UUID(folder[-1])
            except ValueError:  # not ours
                continue
            with runtime.sessions() as session:
                known = session.get(model, row_id)
            if known is None:
                logger.info("sweeping %s%s", below, "/".join(folder))
                runtime.storage.delete(key for key, written in group if written < before)


def referenced(runtime: Runtime, job: str) -> tuple[set[str], str | None]:
    """The keys that a job's rows name, and the prefix of its transcript. Nothing for a job that is gone."""
    try:
        job_id = uuid.UUID(job)
    except ValueError:
        return set(), None
    with runtime.sessions() as session:
        row = session.execute(select(Job.source_key, Job.transcript_prefix).where(Job.id == job_id)).one_or_none()
        if row is None:
            return set(), None
        chunks = session.scalars(select(Chunk.key).where(Chunk.job_id == job_id))
        findings = session.scalars(
            select(Step.result["key"].astext).where(Step.job_id == job_id, Step.kind == StepKind.DIARIZE)
        )
        return {row.source_key, *chunks, *filter(None, findings)}, row.transcript_prefix
