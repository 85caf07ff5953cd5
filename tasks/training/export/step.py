"""The export step: its passes in order, and the fine-tuning that may follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.access import usage
from db.erasure import withdrawal
from db.models import Export, Json, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import dataset
from tasks import flow
from tasks.errors import LeaseLost
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training.export.clips import write_clips
from tasks.training.export.lists import write_lists
from tasks.training.export.manifest import export_manifest
from tasks.training.export.selection import select_segments
from tasks.training.export.splits import assign_splits
from tasks.training.finetune.due import Due


@dataclass(frozen=True, slots=True)
class Exported:
    manifest: Json
    due: Due
    """When fine-tunings follow."""
    listed: Sequence[int] = ()
    """Withdrawals whose clips the lists leave out."""
    told: Sequence[int] = ()
    """Withdrawals that the manifest names."""


def work(claims: Sequence[Claim], work: Work) -> list[Exported]:
    (claim,) = claims
    due = Due.by(work.runtime.settings)
    with work.transaction(claim) as tx:
        flow.start_background_job(tx)
    export = _read(work.runtime, claim)
    if not export.selected:
        select_segments(work, claim, export)
        assign_splits(work, claim, export)
    with work.runtime.sessions() as session:
        listed = withdrawal.unlisted(session, export.job_id)
        withdrawals = withdrawal.to_tell(session, export)
    if export.dry_run:
        return [Exported(export_manifest(work.runtime, export, {}, withdrawals), due)]
    write_clips(work, claim, export)
    manifest = write_lists(work, claim, export, withdrawals)
    return [Exported(manifest, due, listed, [each.id for each in withdrawals])]


def commit(tx: JobTransaction, claim: Claim, exported: Exported) -> Mapping[str, Any]:
    export = tx.session.get_one(Export, claim.job_id)
    withdrawal.mark_listed(tx.session, exported.listed)
    withdrawal.mark_told(tx.session, export, exported.told)
    export.summary = exported.manifest
    flow.finish_background_job(tx)
    if not export.dry_run:
        exported.due.start_next(tx)
    clips = {name: split["clips"] for name, split in exported.manifest["splits"].items()}
    return {"clips": clips} | usage.processed(dataset.accepted_seconds(tx.session, claim.job_id))


def _read(runtime: Runtime, claim: Claim) -> Export:
    with runtime.sessions() as session:
        export = session.get(Export, claim.job_id)
    if export is None:
        raise LeaseLost(f"export {claim.job_id} was deleted")
    return export


handler = Handler(StepKind.EXPORT, work, commit, deadline=12 * 3600)
