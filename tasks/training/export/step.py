"""The step itself: its passes in order, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.models import Export, Json, StepKind
from db.queue.leases import Claim
from db.queue.transaction import JobTransaction
from db.training import finetunes, versions
from tasks import flow
from tasks.errors import LeaseLost
from tasks.runtime import Runtime
from tasks.step import Handler, Work
from tasks.training.export.choose import choose
from tasks.training.export.divide import divide
from tasks.training.export.write import manifest, write_clips, write_lists


@dataclass(frozen=True, slots=True)
class Exported:
    manifest: Json
    enough: float
    """Seconds of new speech from which a fine-tuning starts."""


def work(claims: Sequence[Claim], work: Work) -> list[Exported]:
    (claim,) = claims
    enough = work.runtime.settings.finetune_hours * 3600
    with work.transaction(claim) as tx:
        flow.start_background_job(tx)
    export = _read(work.runtime, claim)
    if not export.selected:
        choose(work, claim, export)
        divide(work, claim, export)
    if export.dry_run:
        return [Exported(manifest(work.runtime, export, {}), enough)]
    write_clips(work, claim, export)
    return [Exported(write_lists(work, claim, export), enough)]


def commit(tx: JobTransaction, claim: Claim, made: Exported) -> Mapping[str, Any]:
    export = tx.session.get_one(Export, claim.job_id)
    export.summary = made.manifest
    flow.finish_background_job(tx)
    if not export.dry_run:
        _tune_when_due(tx, made.enough)
    return {"clips": {name: split["clips"] for name, split in made.manifest["splits"].items()}}


def _tune_when_due(tx: JobTransaction, enough: float) -> None:
    """Enough new speech starts a fine-tuning, one at a time."""
    tenant = tx.job.tenant
    tx.session.flush()
    # a version under trial is not pushed aside by the next night's
    if finetunes.tuning(tx.session, tenant) or versions.on_trial(tx.session, tenant):
        return
    new, seconds = finetunes.new_exports(tx.session, tenant)
    if seconds >= enough:
        started = finetunes.start_finetune(tx.session, tenant, new, seconds, {}, automatic=True)
        tx.events += started.events
        tx.ready += started.ready


def _read(runtime: Runtime, claim: Claim) -> Export:
    with runtime.sessions() as session:
        export = session.get(Export, claim.job_id)
    if export is None:
        raise LeaseLost(f"export {claim.job_id} was deleted")
    return export


handler = Handler(StepKind.EXPORT, work, commit, deadline=12 * 3600)
