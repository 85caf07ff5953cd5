"""purge: deletes the objects of a deleted job, then its rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete

from db import uploads
from db.access import audit, usage
from db.models import Export, Job, JobPurpose, Sample, StepKind, Upload
from db.objects.storage import job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import exports
from tasks.handler import Handler, Work


def work(claims: Sequence[Claim], work: Work) -> list[None]:
    """Delete a job's objects. The commit deletes its rows."""
    (claim,) = claims
    storage = work.runtime.storage
    with work.runtime.sessions() as session:
        export = session.get(Export, claim.job_id)
        # those of a concatenated upload lie elsewhere
        pieces = [piece.key for piece in uploads.parts(session, claim.job_id)]
    storage.delete(pieces)
    for prefix in (job_prefix(claim.job_id), *([exports.prefix(export)] if export else [])):
        storage.delete(key for key, _ in storage.list(prefix))
    return [None]


def commit(tx: JobTransaction, claim: Claim, output: None) -> None:
    usage.settle(tx.session, tx.job)
    if tx.job.purpose == JobPurpose.EXPORT:
        # its row stays, hidden: a nightly export that was deleted must not be made again
        tx.session.execute(delete(Sample).where(Sample.export_id == claim.job_id))
    else:
        audit.note(tx.session, tx.job.tenant, "purge", "erase job", claim.job_id)
        # of a job whose recording was never put together
        tx.session.execute(delete(Upload).where(Upload.id == claim.job_id))
        tx.session.execute(delete(Job).where(Job.id == claim.job_id))


handler = Handler(StepKind.PURGE, work, commit, deadline=4 * 3600)
