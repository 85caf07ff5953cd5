"""Which segments of which jobs are exported, and why the others are not."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import select

from db.models import Export, Job, Sample
from db.queue.claims import Claim
from db.training import dataset, exports
from speech.text.script import normalise
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.rejection import fingerprint, reject, reject_audio
from speech.training.dataset.text import Cleaning
from tasks.handler import Work
from tasks.runtime import Runtime
from tasks.training.export.audio import ChunkAudio
from tasks.training.export.candidates import read_candidates


@dataclass(slots=True)
class _Decision:
    """The row that is stored for a candidate; its ``reason`` is set by the filters."""

    sample: Sample
    candidate: Candidate


def select_segments(work: Work, claim: Claim, export: Export) -> None:
    """Decide on every segment of the export's span, one transaction for each job."""
    runtime = work.runtime
    with runtime.sessions() as session:
        undecided = exports.undecided_jobs(session, export)
    for job_id in undecided:
        work.lease.check(claim)
        while not _select_from(work, claim, export, job_id):
            pass


def _select_from(work: Work, claim: Claim, export: Export, job_id: uuid.UUID) -> bool:
    """Decide on the segments of one job. False if they were corrected or erased meanwhile."""
    with work.runtime.sessions() as session:
        seen = session.scalar(select(Job.event_seq).where(Job.id == job_id))
    samples = list(judge_job(work.runtime, export, job_id))
    with work.transaction(claim) as tx:
        # a job that was deleted meanwhile is not exported
        existing = select(Job.event_seq).where(Job.id == job_id, Job.deleted_at.is_(None))
        newest = tx.session.scalar(existing.with_for_update(key_share=True))
        if newest is not None and newest == seen:
            tx.session.add_all(samples)
    return newest is None or newest == seen


def judge_job(runtime: Runtime, export: Export, job_id: uuid.UUID) -> Iterator[Sample]:
    """A sample for each segment of a job, with the reason for its rejection if there is one."""
    filters, cleaning = Filters.from_json(export.filters), Cleaning.from_json(export.cleaning)
    decisions = [
        _Decision(_sample(export, job_id, chunk, label, candidate), candidate)
        for chunk, label, candidate in read_candidates(runtime, export, job_id, cleaning)
    ]
    for decision in decisions:
        decision.sample.reason = reject(decision.candidate, filters)
    _reject_duplicates(runtime, export, decisions, filters)
    for chunk, group in groupby(decisions, key=lambda decision: decision.sample.chunk):
        accepted = [decision for decision in group if decision.sample.reason is None]
        audio = ChunkAudio.load(runtime, job_id, chunk) if accepted else None
        for decision in accepted:
            span = decision.candidate.start, decision.candidate.end
            samples = audio.cut(*span) if audio and audio.covers(*span) else None
            decision.sample.reason = Reason.AUDIO_MISSING if samples is None else reject_audio(samples, filters)
    for decision in decisions:
        yield decision.sample


def _sample(export: Export, job_id: uuid.UUID, chunk: int, label: str, candidate: Candidate) -> Sample:
    return Sample(
        export_id=export.job_id,
        job_id=job_id,
        segment=candidate.segment,
        chunk=chunk,
        candidate=candidate.to_json(),
        text=candidate.text,
        fingerprint=fingerprint(candidate.text, candidate.seconds),
        text_hash=hashlib.sha256(normalise(candidate.text).encode()).hexdigest(),
        speaker=label,
        seconds=candidate.seconds,
        human=candidate.human,
    )


def _reject_duplicates(runtime: Runtime, export: Export, decisions: Sequence[_Decision], filters: Filters) -> None:
    """Reject utterances that are exported already, and texts that this export has ``max_repeats`` times."""
    accepted = [decision.sample for decision in decisions if decision.sample.reason is None]
    with runtime.sessions() as session:
        known = dataset.accepted_fingerprints(session, export, [sample.fingerprint for sample in accepted])
        counts = Counter(dataset.count_texts(session, export.job_id, [sample.text_hash for sample in accepted]))
    for sample in accepted:
        if sample.fingerprint in known:
            sample.reason = Reason.DUPLICATE
        elif counts[sample.text_hash] >= filters.max_repeats:
            sample.reason = Reason.REPEATED_TEXT
        else:
            known.add(sample.fingerprint)
            counts[sample.text_hash] += 1
