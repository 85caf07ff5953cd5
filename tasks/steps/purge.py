"""purge: deletes the objects of a deleted job, then its rows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from db import uploads
from db.access import audit, usage
from db.erasure import certificates, withdrawal
from db.erasure.deletion import request_certificate
from db.erasure.withdrawal import ExportedSamples
from db.models import (
    Erasure,
    ErasureReason,
    Event,
    Export,
    Job,
    JobPurpose,
    Sample,
    StepKind,
    StoredSegment,
    StoredSpeaker,
    Upload,
)
from db.objects.storage import job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import exports
from db.webhooks import deliveries
from tasks.errors import Superseded
from tasks.handler import Handler, Work
from tasks.training.export.clips import delete_clips


@dataclass(frozen=True, slots=True)
class Purged:
    """How many objects of the job were deleted, and what exports held of it."""

    objects: int
    exported: Sequence[ExportedSamples]
    paths: Mapping[uuid.UUID, list[str]]
    """Of the clips that were deleted, by export."""


def work(claims: Sequence[Claim], work: Work) -> list[Purged]:
    """Delete a job's objects. The commit deletes its rows."""
    (claim,) = claims
    with work.runtime.sessions() as session:
        export = session.get(Export, claim.job_id)
        # those of a concatenated upload lie elsewhere
        keys = {piece.key for piece in uploads.parts(session, claim.job_id)}
        exported = withdrawal.exported(session, claim.job_id)
    paths = delete_clips(work.runtime.remove, exported)
    for prefix in (job_prefix(claim.job_id), *([exports.prefix(export)] if export else [])):
        keys |= {key for key, _ in work.runtime.storage.list(prefix)}
    work.runtime.remove(keys)
    return [Purged(len(keys), exported, paths)]


def commit(tx: JobTransaction, claim: Claim, purged: Purged) -> None:
    usage.settle(tx.session, tx.job)
    erasure = tx.session.scalar(select(Erasure.id).where(*certificates.of_deletion(claim.job_id)).limit(1))
    if erasure is None:
        # deleted by an older version
        erasure = request_certificate(tx, ErasureReason.DELETED, "")
    counts = {"objects": purged.objects}
    if tx.job.purpose == JobPurpose.EXPORT:
        # its row stays, hidden: a nightly export that was deleted must not be made again
        gone = tx.session.execute(delete(Sample).where(Sample.export_id == claim.job_id).returning(Sample.segment))
        counts["segments"] = len(gone.all())
        tx.session.execute(update(Export).where(Export.job_id == claim.job_id).values(summary=None))
        tx.session.execute(delete(Event).where(Event.job_id == claim.job_id))
        withdrawal.mark_listed(tx.session, withdrawal.unlisted(tx.session, claim.job_id))
    else:
        withdrawal.lock_samples(tx.session, claim.job_id)
        exported = withdrawal.exported(tx.session, claim.job_id)
        if withdrawal.identities(exported) != withdrawal.identities(purged.exported):
            raise Superseded(f"exports took clips of job {claim.job_id} meanwhile")
        withdrawal.record(tx.session, tx.job.tenant, erasure, exported, purged.paths)
        counts |= _counts(tx, exported) | {"tuned_versions": withdrawal.tuned_versions(tx.session, erasure)}
        audit.note(tx.session, tx.job.tenant, "purge", "erase job", claim.job_id)
        deliveries.delete_of_erased(tx.session, claim.job_id)
        # of a job whose recording was never put together, or whose pieces outlived that
        tx.session.execute(delete(Upload).where(Upload.id == claim.job_id))
        tx.session.execute(delete(Job).where(Job.id == claim.job_id))
    certificates.certify(tx.session, erasure, counts)


def _counts(tx: JobTransaction, exported: Sequence[ExportedSamples]) -> dict[str, int]:
    """What the rows of the job hold, for its certificate."""
    segments = select(func.count()).where(StoredSegment.job_id == tx.job.id)
    voiceprints = select(func.count()).where(
        StoredSpeaker.job_id == tx.job.id, func.cardinality(StoredSpeaker.vector) > 0
    )
    return {
        "segments": tx.session.scalar(segments) or 0,
        "voiceprints": tx.session.scalar(voiceprints) or 0,
        "clips": sum(len(each.samples) for each in exported),
    }


handler = Handler(StepKind.PURGE, work, commit, deadline=4 * 3600)
