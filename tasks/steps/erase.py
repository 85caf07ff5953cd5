"""erase: finds and removes everything of one person."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlalchemy.orm import Session

from db import library, voices
from db.access import audit
from db.erasure import certificates, persons, withdrawal
from db.erasure.deletion import delete_job
from db.erasure.persons import Appearance, FoundBy
from db.erasure.withdrawal import ExportedSamples
from db.models import Erasure, ErasureReason, Job, JobStatus, Json, StepKind, StoredVoice
from db.objects.storage import job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from tasks import flow
from tasks.errors import LeaseLost, Superseded
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training.export.clips import delete_clips
from tasks.transaction import change_job

WAIT_SECONDS = 15.0
"""Between two looks at jobs in work, in which the person speaks or may yet be heard."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is to be erased. ``voice_id`` is None for who was only ever named."""

    tenant: str
    name: str
    voice_id: uuid.UUID | None
    similar: bool


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
    found = _find(runtime, person)
    if erasure.dry_run:
        with runtime.sessions() as session:
            return [Found([_entry(session, *each) for each in found.items()])]
    done = True
    for job_id, appearances in found.items():
        work.lease.check(claim)
        done &= _erase_from(runtime, erasure, job_id, appearances)
    with runtime.sessions() as session:
        done &= not persons.may_still_be_heard(session, person.tenant, erasure.requested_at)
    if not done:
        raise Superseded(f"erasure {erasure.id} waits for jobs in work", delay=WAIT_SECONDS)
    return [person]


def _read(session: Session, claim: Claim) -> Person:
    job = session.get(Job, claim.job_id)
    if job is None:
        raise LeaseLost(f"erasure {claim.job_id} was deleted")
    voice_id = job.options["voice_id"]
    return Person(
        job.tenant, job.options["name"], uuid.UUID(voice_id) if voice_id else None, job.options["similar"]
    )


def _find(runtime: Runtime, person: Person) -> dict[uuid.UUID, list[Appearance]]:
    """Where the person appears, by job."""
    with runtime.sessions() as session:
        found = persons.known(session, person.tenant, person.name, person.voice_id)
    if person.similar:
        found += _find_similar(runtime, person)
    by_job: dict[uuid.UUID, list[Appearance]] = defaultdict(list)
    for each in found:
        by_job[each.job_id].append(each)
    return by_job


def _find_similar(runtime: Runtime, person: Person) -> Iterator[Appearance]:
    """Speakers whom nobody matched or named and who sound like the voice."""
    with runtime.sessions() as session:
        voice = session.get(StoredVoice, person.voice_id) if person.voice_id else None
    if voice is None or voice.vector is None:
        return
    after: tuple[uuid.UUID, str] | None = None
    while True:
        with runtime.sessions() as session:
            page = persons.unnamed_voiceprints(session, person.tenant, str(voice.model), after)
        for job_id, label, vector in page:
            if np.dot(vector, voice.vector) >= runtime.settings.voice_threshold:
                yield Appearance(job_id, label, FoundBy.SIMILARITY)
        if len(page) < persons.PAGE_SIZE:
            return
        after = page[-1][0], page[-1][1]


def _entry(session: Session, job_id: uuid.UUID, appearances: Sequence[Appearance]) -> Json:
    segments = persons.spoken(session, job_id, {each.speaker for each in appearances})
    exported = withdrawal.exported(session, job_id, segments)
    return _described(job_id, appearances) | {"segments": len(segments), "clips": _clips(exported)}


def _described(job_id: uuid.UUID, appearances: Sequence[Appearance]) -> Json:
    return {"job_id": str(job_id), "found_by": sorted({each.by.value for each in appearances})}


def _clips(exported: Sequence[ExportedSamples]) -> int:
    return sum(len(each.samples) for each in exported)


def _erase_from(runtime: Runtime, erasure: Erasure, job_id: uuid.UUID, appearances: Sequence[Appearance]) -> bool:
    """Remove the person from one recording. False if that is in work, or was changed meanwhile.

    Clips and objects go before the rows that tell of them, so that none is forgotten.
    """
    speakers = {each.speaker for each in appearances}
    with runtime.sessions() as session:
        job = session.get(Job, job_id)
        if job is None:
            return True
        if not job.status.finished:
            return False
        segments = persons.spoken(session, job_id, speakers)
        whole = job.status != JobStatus.COMPLETED or not persons.others_speak(session, job_id, segments)
        exported = withdrawal.exported(session, job_id, segments)
    described = _described(job_id, appearances)

    def unchanged(tx: JobTransaction) -> bool:
        return tx.job.event_seq == job.event_seq and tx.job.status.finished

    def delete(tx: JobTransaction) -> bool:
        if not unchanged(tx):
            return False
        delete_job(tx, ErasureReason.PERSON, erasure.requested_by, part_of=erasure.id)
        entry = described | {"segments": len(segments), "deleted_jobs": 1}
        persons.note(tx.session, erasure.id, [entry])
        return True

    def hide_audio(tx: JobTransaction) -> bool:
        if not unchanged(tx):
            return False
        tx.job.audio_erased_at = tx.job.audio_erased_at or func.now()
        return True

    if whole:
        return _change(runtime, job_id, delete)
    if not _change(runtime, job_id, hide_audio):
        return False
    paths = delete_clips(runtime.remove, exported)
    keys = [key for key, _ in runtime.storage.list(job_prefix(job_id))]
    runtime.remove(keys)

    def remove(tx: JobTransaction) -> bool:
        withdrawal.lock_samples(tx.session, job_id)
        still = withdrawal.exported(tx.session, job_id, segments)
        if not unchanged(tx) or withdrawal.identities(still) != withdrawal.identities(exported):
            return False
        gone = persons.remove(tx, erasure.id, speakers, segments)
        withdrawal.record(tx.session, erasure.tenant, erasure.id, still, paths)
        entry = described | gone | {"objects": len(keys), "clips": _clips(still)}
        persons.note(tx.session, erasure.id, [entry])
        audit.note(tx.session, erasure.tenant, "erase", "erase person", job_id)
        return True

    return _change(runtime, job_id, remove)


def _change(runtime: Runtime, job_id: uuid.UUID, change: Callable[[JobTransaction], bool]) -> bool:
    """Change the job under its lock; a job that is gone needs no change."""
    return change_job(runtime, job_id, lambda tx: tx.job.deleted_at is not None or change(tx)) is not False


def commit(tx: JobTransaction, claim: Claim, output: Person | Found) -> Mapping[str, Any]:
    if isinstance(output, Found):
        persons.note(tx.session, claim.job_id, output.entries)
    else:
        _forget(tx, output)
    # the options hold the name
    tx.job.options = {}
    counts = persons.totals(tx.session, claim.job_id)
    counts["tuned_versions"] = withdrawal.tuned_versions(tx.session, claim.job_id)
    certificates.certify(tx.session, claim.job_id, counts)
    flow.finish_background_job(tx)
    return {}


def _forget(tx: JobTransaction, person: Person) -> None:
    """Delete the voice and the saved searches that name it, unless a job was matched with it meanwhile."""
    voice = None
    if person.voice_id is not None:
        voice = tx.session.get(StoredVoice, person.voice_id, with_for_update=True)
    if persons.known(tx.session, person.tenant, person.name, person.voice_id):
        raise Superseded(f"the person of erasure {tx.job.id} was found in another recording meanwhile")
    library.forget_searches_for(tx.session, person.tenant, person.name)
    if voice is not None:
        voices.delete(tx.session, voice)


handler = Handler(StepKind.ERASE, work, commit, deadline=12 * 3600)
