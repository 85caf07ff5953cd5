"""Clips of training data that are erased from exports, and the manifests that have to say so."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Text, and_, cast, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from db.erasure import certificates
from db.models import Chunk, Export, FineTune, Job, JobStatus, ModelVersion, Sample, StoredSegment, Withdrawal


@dataclass(slots=True)
class ExportedSamples:
    """Samples of one recording whose clips lie in an export."""

    export: Export
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(sample.seconds for sample in self.samples)


def taken_from(job_id: uuid.UUID, segments: Collection[int]) -> ColumnElement[bool]:
    """Whether a sample holds anything of these segments of a job. It is known by the times: since it was taken,
    people may have divided and joined the segments, and given them other numbers."""
    cut_from, said_in = aliased(Chunk), aliased(Chunk)
    start, end = (Sample.candidate[name].as_float() for name in ("start", "end"))
    at_once = and_(
        StoredSegment.start < end,
        StoredSegment.end > start,
        # channels that were transcribed separately have clips of their own
        said_in.channel.is_not_distinct_from(cut_from.channel),
    )
    found = (
        select(StoredSegment.index)
        .join(said_in, and_(said_in.job_id == StoredSegment.job_id, said_in.index == StoredSegment.chunk))
        .join(cut_from, and_(cut_from.job_id == StoredSegment.job_id, cut_from.index == Sample.chunk))
        .where(
            StoredSegment.job_id == job_id,
            StoredSegment.index.in_(segments),
            or_(StoredSegment.index == Sample.segment, at_once),
        )
        .correlate(Sample)
    )
    return and_(Sample.job_id == job_id, found.exists())


def exported(
    session: Session, job_id: uuid.UUID, segments: Collection[int] | None = None
) -> list[ExportedSamples]:
    """What exports hold of a recording, or of some of its segments, and what they are about to write."""
    query = (
        select(Export, Sample)
        .join(Sample, Sample.export_id == Export.job_id)
        .where(Sample.job_id == job_id, Sample.reason.is_(None), Export.dry_run.is_(False))
        .order_by(Export.job_id, Sample.segment)
    )
    if segments is not None:
        query = query.where(taken_from(job_id, segments))
    found: dict[uuid.UUID, ExportedSamples] = {}
    for export, sample in session.execute(query):
        found.setdefault(export.job_id, ExportedSamples(export)).samples.append(sample)
    return list(found.values())


def lock_samples(session: Session, job_id: uuid.UUID) -> None:
    """Wait for exports that are writing clips of the recording, and let none go on until the transaction ends."""
    samples = select(Sample.segment).where(Sample.job_id == job_id)
    session.execute(samples.order_by(Sample.export_id, Sample.segment).with_for_update()).all()


def identities(found: Sequence[ExportedSamples]) -> set[tuple[uuid.UUID, int]]:
    return {(sample.export_id, sample.segment) for each in found for sample in each.samples}


def record(
    session: Session,
    tenant: str,
    erasure_id: uuid.UUID,
    found: Sequence[ExportedSamples],
    paths: Mapping[uuid.UUID, list[str]],
) -> None:
    """Note the clips that an erasure has removed from each export."""
    for each in found:
        session.execute(
            insert(Withdrawal).values(
                tenant=tenant,
                export_id=each.export.job_id,
                erasure_id=erasure_id,
                clips=paths[each.export.job_id],
                seconds=each.seconds,
            )
        )


def tuned_versions(session: Session, erasure_id: uuid.UUID) -> int:
    """How many versions of the draft model learnt from what an erasure withdrew, or are about to.

    Those are counted, too, that were tuned on top of such a version.
    """
    exports = select(func.array_agg(Withdrawal.export_id)).where(Withdrawal.erasure_id == erasure_id)
    learnt = select(FineTune.job_id).where(FineTune.exports.overlap(exports.scalar_subquery()))
    at_work = select(func.count()).where(
        Job.id.in_(learnt), Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING))
    )
    tuned = select(ModelVersion.id).where(ModelVersion.finetune_id.in_(learnt)).cte("tuned", recursive=True)
    tuned = tuned.union(select(ModelVersion.id).join(tuned, ModelVersion.base == cast(tuned.c.id, Text)))
    return (session.scalar(select(func.count()).select_from(tuned)) or 0) + (session.scalar(at_work) or 0)


def exports_to_list(session: Session, *states: JobStatus) -> Sequence[uuid.UUID]:
    """Exports in these states whose lists still name clips that are withdrawn."""
    return session.scalars(
        select(Withdrawal.export_id)
        .join(Job, Job.id == Withdrawal.export_id)
        .where(Withdrawal.listed_at.is_(None), Job.status.in_(states), Job.deleted_at.is_(None))
        .distinct()
    ).all()


def unlisted(session: Session, export_id: uuid.UUID) -> Sequence[int]:
    """Ids of the withdrawals that lists which are written from now on leave out."""
    return session.scalars(
        select(Withdrawal.id).where(Withdrawal.export_id == export_id, Withdrawal.listed_at.is_(None))
    ).all()


def mark_listed(session: Session, withdrawal_ids: Collection[int]) -> None:
    """The lists are written, or gone."""
    erasure_ids = session.scalars(
        update(Withdrawal)
        .where(Withdrawal.id.in_(withdrawal_ids))
        .values(listed_at=func.now())
        .returning(Withdrawal.erasure_id)
    ).all()
    certificates.close(session, erasure_ids)


def to_tell(session: Session, export: Export) -> Sequence[Withdrawal]:
    """What the manifest of an export has to name: its own withdrawals, and those of earlier exports that no
    manifest has named before."""
    is_own = Withdrawal.export_id == export.job_id
    condition = is_own | (Withdrawal.told_in == export.job_id)
    # an export whose lists are written again is not the next one
    if export.summary is None:
        condition |= Withdrawal.told_in.is_(None)
    return session.scalars(
        select(Withdrawal).where(Withdrawal.tenant == export.tenant, condition).order_by(Withdrawal.id)
    ).all()


def mark_told(session: Session, export: Export, withdrawal_ids: Collection[int]) -> None:
    session.execute(
        update(Withdrawal)
        .where(
            Withdrawal.id.in_(withdrawal_ids), Withdrawal.told_in.is_(None), Withdrawal.export_id != export.job_id
        )
        .values(told_in=export.job_id)
    )
