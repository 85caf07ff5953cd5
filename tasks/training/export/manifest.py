"""The manifest of an export, from what its samples hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from db.models import Export, Job, Json, Split, Withdrawal
from db.training import dataset
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.manifest import SplitCount, WithdrawnClips, build_manifest
from speech.training.dataset.text import Cleaning
from tasks.runtime import Runtime


def export_manifest(
    runtime: Runtime, export: Export, files: Mapping[str, Json], withdrawals: Sequence[Withdrawal]
) -> Json:
    """``withdrawals`` are what it has to tell of clips that were erased."""
    with runtime.sessions() as session:
        counts = dataset.count_by_reason(session, export.job_id)
        created_at = session.get_one(Job, export.job_id).created_at
        totals = dataset.totals(session, export.job_id)
        models = dataset.count_models(session, export.job_id)
    return build_manifest(
        id=str(export.job_id),
        tenant=export.tenant,
        date=export.date,
        created_at=created_at,
        window=(export.since, export.until),
        filters=Filters.from_json(export.filters),
        cleaning=Cleaning.from_json(export.cleaning),
        splits={split.value: SplitCount(*totals.splits[split]) for split in Split},
        rejections={Reason(reason): count for reason, count in counts.items() if reason},
        models=models,
        languages=totals.languages,
        sources=totals.sources,
        withdrawn=[
            WithdrawnClips(str(each.export_id), each.at, each.seconds, tuple(each.clips)) for each in withdrawals
        ],
        files=dict(files),
    )
