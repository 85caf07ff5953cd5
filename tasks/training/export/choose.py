"""Which segments of which jobs are exported, and why the others are not."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import (
    Export,
    Job,
    Role,
    Sample,
    SegmentSource,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
)
from db.queue.leases import Claim
from db.training import dataset, exports
from speech.text.script import join_words, normalise
from speech.text.words import Hypothesis
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.filters import Filters, Reason, fingerprint, reject, reject_audio
from speech.training.dataset.text import Cleaning, clean
from tasks.runtime import Runtime
from tasks.step import Work
from tasks.training.export.audio import ChunkAudio


@dataclass(slots=True)
class _Heard:
    """A segment on its way through the filters."""

    sample: Sample
    candidate: Candidate


def choose(work: Work, claim: Claim, export: Export) -> None:
    runtime = work.runtime
    with runtime.sessions() as session:
        waiting = exports.jobs_to_export(session, export)
    for job_id in waiting:
        work.lease.check(claim)
        decided = list(_judge(runtime, export, job_id))
        with work.transaction(claim) as tx:
            # a job that was deleted meanwhile is not exported
            there = select(Job.id).where(Job.id == job_id, Job.deleted_at.is_(None))
            there = there.with_for_update(read=True, key_share=True)
            if tx.session.scalar(there) is not None:
                tx.session.add_all(decided)


def _judge(runtime: Runtime, export: Export, job_id: uuid.UUID) -> Iterator[Sample]:
    """What becomes of each segment of a job."""
    filters, cleaning = Filters.from_json(export.filters), Cleaning.from_json(export.cleaning)
    heard = list(_candidates(runtime, export, job_id, cleaning))
    for one in heard:
        one.sample.reason = reject(one.candidate, filters)
    _reject_known(runtime, export, heard, filters)
    for chunk, group in groupby(heard, key=lambda one: one.sample.chunk):
        wanted = [one for one in group if one.sample.reason is None]
        audio = ChunkAudio.of(runtime, job_id, chunk) if wanted else None
        for one in wanted:
            samples = audio.between(one.candidate.start, one.candidate.end) if audio else None
            one.sample.reason = Reason.AUDIO_MISSING if samples is None else reject_audio(samples, filters)
    for one in heard:
        yield one.sample


def _candidates(runtime: Runtime, export: Export, job_id: uuid.UUID, cleaning: Cleaning) -> Iterator[_Heard]:
    with runtime.sessions() as session:
        job = session.get(Job, job_id)
        if job is None:
            return
        consents = _consents(session, job)
        segments = session.scalars(
            select(StoredSegment).where(StoredSegment.job_id == job_id).order_by(StoredSegment.index)
        ).all()
        retained = _retained(runtime, job, export)
        for chunk, group in groupby(segments, key=lambda segment: segment.chunk):
            heard = {
                row.role: Hypothesis.from_json(row.content)
                for row in session.scalars(
                    select(StoredHypothesis).where(
                        StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk
                    )
                )
            }
            draft, refined = heard.get(Role.DRAFT), heard.get(Role.REFINED)
            for segment in group:
                label, human, confidence = _said_by(segment, consents)
                text = clean(segment.text, segment.language or job.language, cleaning)
                candidate = Candidate(
                    job=str(job_id),
                    segment=segment.index,
                    source=str(job.options.get("source") or job.tenant),
                    at=job.created_at,
                    start=segment.start,
                    end=segment.end,
                    text=text,
                    language=segment.language or job.language,
                    speaker=f"{job_id}/{label}",
                    human=human,
                    confidence=confidence,
                    draft=_between(draft, segment.start, segment.end),
                    refined=_between(refined, segment.start, segment.end),
                    consent=consents[label],
                    retained=retained,
                    itn=draft.itn if draft else None,
                    emotion=draft.emotion if draft else None,
                    event=draft.event if draft else None,
                )
                yield _Heard(_sample(export, job_id, chunk, label, candidate), candidate)


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


def _said_by(segment: StoredSegment, known: Mapping[str, bool]) -> tuple[str, bool, float]:
    """Whose words they are, whether a person has corrected them, and how sure they are.

    A new name that a person gave is no voiceprint: it is the machine's label that tells who may consent. And who
    corrected the name alone has not vouched for the words.
    """
    machine = segment.machine or {}
    label = segment.speaker or ""
    if label not in known:
        label = machine.get("speaker") or ""
    corrected = segment.source == SegmentSource.HUMAN and machine.get("text") != segment.text
    confidence = segment.confidence if corrected else machine.get("confidence", segment.confidence)
    return label if label in known else "", corrected, confidence


def _consents(session: Session, job: Job) -> dict[str, bool]:
    """For each speaker's label whether they may be trained on. The job's own word counts for all."""
    rows = session.execute(
        select(StoredSpeaker.label, StoredSpeaker.voice_id, StoredVoice.id, StoredVoice.training)
        .outerjoin(StoredVoice, StoredVoice.id == StoredSpeaker.voice_id)
        .where(StoredSpeaker.job_id == job.id)
    )
    everybody = job.options.get("training") is not False
    return {"": everybody} | {
        label: everybody and named == known and consent is not False for label, named, known, consent in rows
    }


def _retained(runtime: Runtime, job: Job, export: Export) -> bool:
    """Whether the recording is to be kept beyond the export's own time."""
    days = job.options.get("retain_days", runtime.settings.retain_days)
    return days is None or job.created_at + timedelta(days=days) > export.until


def _between(hypothesis: Hypothesis | None, start: float, end: float) -> str | None:
    """What an engine heard in a span, by the middles of its words."""
    if hypothesis is None:
        return None
    return join_words(word for word in hypothesis.words if start <= (word.start + word.end) / 2 <= end)


def _reject_known(runtime: Runtime, export: Export, heard: Sequence[_Heard], filters: Filters) -> None:
    """Reject what an earlier night has, and what this one has often enough."""
    fresh = [one.sample for one in heard if one.sample.reason is None]
    with runtime.sessions() as session:
        known = dataset.exported_before(session, export, [sample.fingerprint for sample in fresh])
        said = Counter(dataset.repeats(session, export.job_id, [sample.text_hash for sample in fresh]))
    for sample in fresh:
        if sample.fingerprint in known:
            sample.reason = Reason.DUPLICATE
        elif said[sample.text_hash] >= filters.max_repeats:
            sample.reason = Reason.REPEATED_TEXT
        else:
            known.add(sample.fingerprint)
            said[sample.text_hash] += 1
