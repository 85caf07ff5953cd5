"""erase: finds and removes everything of one person."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import voices
from db.access import audit
from db.erasure import certificates, persons, withdrawal
from db.erasure.deletion import delete_job
from db.erasure.persons import Appearance, FoundBy
from db.models import Erasure, ErasureReason, Job, JobStatus, Json, StepKind, StoredVoice
from db.objects.storage import job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from tasks import flow
from tasks.errors import LeaseLost, Permanent, Superseded
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training.export.clips import delete_clips
from tasks.transaction import announce


@dataclass(frozen=True, slots=True)
class Person:
    """Who is to be erased. ``voice`` is None for who was only ever named."""

    tenant: str
    name: str
    voice: StoredVoice | None
    similar: bool

    @property
    def voice_id(self) -> uuid.UUID | None:
        return self.voice.id if self.voice else None


@dataclass(frozen=True, slots=True)
class Found:
    """What a dry run reports."""

    entries: Sequence[Json]


def work(claims: Sequence[Claim], work: Work) -> list[Person | Found]:
    """Remove the person from every recording. A dry run only returns what it finds."""
    (claim,) = claims
    runtime = work.runtime
    with work.transaction(claim) as tx:
        flow.start_background_job(tx)
    with runtime.sessions() as session:
        erasure = session.get_one(Erasure, claim.job_id)
        person = _read(session, claim)
        found = _find(runtime, session, person)
        if erasure.dry_run:
            return [Found([_entry(session, *each) for each in found.items()])]
        unfinished = session.scalars(
            select(Job.id).where(Job.id.in_(found), Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)))
        ).all()
    if unfinished:
        detail = (
            f"The person speaks in jobs that are in work, such as {unfinished[0]}: wait for them or cancel them."
        )
        raise Permanent("jobs_in_work", detail)
    for job_id, appearances in found.items():
        work.lease.check(claim)
        _erase_from(runtime, erasure, job_id, appearances)
    return [person]


def _read(session: Session, claim: Claim) -> Person:
    job = session.get(Job, claim.job_id)
    if job is None:
        raise LeaseLost(f"erasure {claim.job_id} was deleted")
    voice_id = job.options["voice_id"]
    voice = session.get(StoredVoice, uuid.UUID(voice_id)) if voice_id else None
    return Person(job.tenant, job.options["name"], voice, job.options["similar"])


def _find(runtime: Runtime, session: Session, person: Person) -> dict[uuid.UUID, list[Appearance]]:
    """Where the person appears, by job."""
    found = persons.known(session, person.tenant, person.name, person.voice_id)
    if person.similar and person.voice is not None and person.voice.vector:
        known = {(each.job_id, each.speaker) for each in found}
        voice = np.array(person.voice.vector, np.float32)
        found += [
            Appearance(speaker.job_id, speaker.label, FoundBy.SIMILARITY)
            for speaker in persons.voiceprints(session, person.tenant, str(person.voice.model))
            if (speaker.job_id, speaker.label) not in known
            and float(np.array(speaker.vector, np.float32) @ voice) >= runtime.settings.voice_threshold
        ]
    by_job: dict[uuid.UUID, list[Appearance]] = defaultdict(list)
    for each in found:
        by_job[each.job_id].append(each)
    return by_job


def _entry(session: Session, job_id: uuid.UUID, appearances: Sequence[Appearance]) -> Json:
    speakers = {each.speaker for each in appearances}
    segments = persons.spoken(session, job_id, speakers)
    clips = withdrawal.exported(session, job_id, segments)
    return _described(job_id, appearances) | {
        "segments": len(segments),
        "clips": sum(len(each.samples) for each in clips),
    }


def _described(job_id: uuid.UUID, appearances: Sequence[Appearance]) -> Json:
    return {"job_id": str(job_id), "found_by": sorted({each.by.value for each in appearances})}


def _erase_from(runtime: Runtime, erasure: Erasure, job_id: uuid.UUID, appearances: Sequence[Appearance]) -> None:
    """Remove the person from one recording: clips and objects first, then rows, so that nothing is forgotten."""
    speakers = {each.speaker for each in appearances}
    with runtime.sessions() as session:
        job = session.get(Job, job_id)
        if job is None:
            return
        segments = persons.spoken(session, job_id, speakers)
        whole = job.status != JobStatus.COMPLETED or not persons.others_speak(session, job_id, segments)
        exported = withdrawal.exported(session, job_id, segments)
    described = _described(job_id, appearances)
    if whole:
        _delete(runtime, erasure, job_id, described | {"segments": len(segments)})
        return
    paths = delete_clips(runtime, exported)
    keys = [key for key, _ in runtime.storage.list(job_prefix(job_id))]
    runtime.storage.delete(keys)
    try:
        with job_transaction(runtime.sessions, job_id) as tx:
            withdrawal.lock_samples(tx.session, job_id)
            still = withdrawal.exported(tx.session, job_id, segments)
            changed = withdrawal.identities(still) != withdrawal.identities(exported)
            if changed or tx.job.event_seq != job.event_seq:
                raise Superseded(f"job {job_id} was changed meanwhile")
            gone = persons.remove(tx, erasure.id, speakers, segments)
            withdrawal.record(tx.session, erasure.tenant, erasure.id, still, paths)
            gone |= {"objects": len(keys), "clips": sum(len(each.samples) for each in still)}
            gone["tuned_versions"] = withdrawal.tuned_versions(tx.session, list(paths))
            persons.note(tx.session, erasure.id, [described | gone])
            audit.note(tx.session, erasure.tenant, "erase", "erase person", job_id)
    except JobGone:
        return
    announce(runtime, tx)


def _delete(runtime: Runtime, erasure: Erasure, job_id: uuid.UUID, entry: Json) -> None:
    """Nobody else speaks in the recording, or it has no whole transcript: it goes as if it had been deleted."""
    try:
        with job_transaction(runtime.sessions, job_id) as tx:
            if tx.job.deleted_at is None:
                delete_job(tx, ErasureReason.PERSON, erasure.requested_by)
                persons.note(tx.session, erasure.id, [entry | {"deleted_jobs": 1}])
                audit.note(tx.session, erasure.tenant, "erase", "delete job", job_id)
    except JobGone:
        return
    announce(runtime, tx)


def commit(tx: JobTransaction, claim: Claim, output: Person | Found) -> Mapping[str, Any]:
    if isinstance(output, Found):
        persons.note(tx.session, claim.job_id, output.entries)
    else:
        _forget(tx, output)
    # the options hold the name
    tx.job.options = {}
    certificates.certify(tx.session, claim.job_id, persons.totals(tx.session, claim.job_id))
    flow.finish_background_job(tx)
    return {}


def _forget(tx: JobTransaction, person: Person) -> None:
    """Delete the voice, unless a job was matched with it meanwhile."""
    voice = None
    if person.voice_id is not None:
        voice = tx.session.get(StoredVoice, person.voice_id, with_for_update=True)
    if persons.known(tx.session, person.tenant, person.name, person.voice_id):
        raise Superseded(f"the person of erasure {tx.job.id} was found in another recording meanwhile")
    if voice is not None:
        voices.delete(tx.session, voice)


handler = Handler(StepKind.ERASE, work, commit, deadline=12 * 3600)
