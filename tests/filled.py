"""A tenant with rows in every table and objects in the bucket. All of them carry its name."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from db.models import (
    AuditEntry,
    Chunk,
    Collection,
    CollectionJob,
    Erasure,
    EventType,
    Export,
    FineTune,
    Job,
    JobPurpose,
    JobStatus,
    KnownSpeaker,
    Link,
    LiveFinal,
    LivePiece,
    LiveSession,
    ModelVersion,
    Reading,
    ReadingKind,
    ReadingStatus,
    Role,
    Sample,
    SavedSearch,
    SegmentSource,
    Signal,
    StoredHypothesis,
    StoredKey,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
    StoredVoice,
    Template,
    Tenant,
    Upload,
    UploadPart,
    UsageRecord,
    VersionState,
    VocabularyTerm,
    Webhook,
    WebhookDelivery,
    WebhookSecret,
    Withdrawal,
)
from db.queue.transaction import job_transaction
from db.search.refresh import refresh
from db.session import Sessions
from tests.jobs import make_job

SEGMENT = 0
READING = 1
EXPORT_FILE = "manifest.json"
TEMPLATE = "brief"


@dataclass(frozen=True)
class Filled:
    """Ids of a tenant's rows."""

    done: uuid.UUID
    running: uuid.UUID
    voice: uuid.UUID
    enrolment: uuid.UUID
    export: uuid.UUID
    finetune: uuid.UUID
    version: uuid.UUID
    key: uuid.UUID
    upload: uuid.UUID
    erasure: uuid.UUID
    term: uuid.UUID
    webhook: uuid.UUID
    delivery: uuid.UUID
    collection: uuid.UUID
    search: uuid.UUID
    link: uuid.UUID
    own_delivery: uuid.UUID
    """To the address that the job named which is done."""


def fill(sessions: Sessions, tenant: str) -> Filled:
    """May be repeated: each time adds rows."""
    mark = f"{tenant} {uuid.uuid4().hex[:8]}"
    voice, version, key, erasure, upload, term = (uuid.uuid4() for _ in range(6))
    webhook, delivery, own_delivery, collection, search, link = (uuid.uuid4() for _ in range(6))
    with sessions.begin() as session:
        if session.get(Tenant, tenant) is None:
            session.add(Tenant(name=tenant))
            brief = {"instructions": tenant, "parts": ["summary"], "sentences": 3}
            session.add(Template(tenant=tenant, name=TEMPLATE, **brief))
        session.add(VocabularyTerm(id=term, tenant=tenant, term=mark, sounds_like=[], accepted=True))
        session.add(StoredVoice(id=voice, tenant=tenant, name=mark))
        session.add(
            ModelVersion(
                id=version,
                tenant=tenant,
                number=version.int % 2**31,
                role=Role.DRAFT,
                engine=mark,
                state=VersionState.CANDIDATE,
                base=mark,
                metrics={},
                files={},
            )
        )
        session.add(
            StoredKey(id=key, tenant=tenant, name=mark, prefix=mark, digest=key.bytes, scopes=["jobs:read"])
        )
        session.add(AuditEntry(tenant=tenant, actor=mark, action="DELETE /v1/jobs/{job_id}", target=str(key)))
        expires_at = datetime.now(UTC) + timedelta(days=1)
        session.add(Upload(id=upload, tenant=tenant, filename=mark, bytes=4, in_parts=True, expires_at=expires_at))
        session.flush()
        session.add(UploadPart(key=f"jobs/{upload}/parts/{mark}", upload_id=upload, start=0, bytes=4))
        erased = {"what": "job", "reason": "deleted", "subject": str(key), "requested_by": mark}
        session.add(Erasure(id=erasure, tenant=tenant, **erased))
        session.add(Withdrawal(tenant=tenant, export_id=version, erasure_id=erasure, clips=[mark], seconds=1.0))
        _add_webhook(session, tenant, mark, webhook, delivery)
    running = make_job(sessions, tenant=tenant, filename=mark)
    with sessions.begin() as session:
        session.add(KnownSpeaker(job_id=running, name=mark, sample=b"RIFF"))
        session.add(LiveSession(job_id=running, tenant=tenant, flow_id=mark, writer=running))
        session.flush()
        session.add(LivePiece(key=f"jobs/{running}/live/{mark}", job_id=running, start=0, samples=4))
        session.add(LiveFinal(job_id=running, seq=1, end=4, content={"text": mark}))
    enrolment = make_job(sessions, tenant=tenant, filename=mark, voice_id=voice)
    done = _transcribed(sessions, tenant, mark, version, voice)
    export = _training_job(sessions, tenant, JobPurpose.EXPORT)
    finetune = _training_job(sessions, tenant, JobPurpose.FINETUNE)
    with sessions.begin() as session:
        session.add(
            Export(
                job_id=export,
                tenant=tenant,
                date=datetime.now(UTC).date(),
                since=datetime(2026, 1, 1, tzinfo=UTC),
                until=datetime(2026, 1, 2, tzinfo=UTC),
                dry_run=False,
                filters={},
                cleaning={},
                summary={"name": mark},
            )
        )
        session.flush()
        session.add(_sample(export, done, mark))
        tuned = {"role": Role.DRAFT, "exports": [export], "seconds": 1.0, "automatic": False, "options": {}}
        session.add(FineTune(job_id=finetune, tenant=tenant, **tuned))
        told = {"id": own_delivery, "tenant": tenant, "job_id": done, "url": "https://example.com/"}
        session.add(WebhookDelivery(**told, endpoint=done, type="job.completed", body=mark))
        session.add(Collection(id=collection, tenant=tenant, name=mark))
        session.add(SavedSearch(id=search, tenant=tenant, name=mark, query={"q": tenant}))
        session.flush()
        session.add(CollectionJob(collection_id=collection, job_id=done))
        expires = {"created_by": mark, "expires_at": expires_at}
        session.add(Link(id=link, tenant=tenant, job_id=done, digest=link.bytes, audio=True, **expires))
        session.add(UsageRecord(tenant=tenant, key_id=key, job_id=done, stage="upload", audio_seconds=1.0))
    return Filled(
        *(done, running, voice, enrolment, export, finetune, version, key, upload, erasure),
        *(term, webhook, delivery, collection, search, link, own_delivery),
    )


def _add_webhook(session: Session, tenant: str, mark: str, webhook: uuid.UUID, delivery: uuid.UUID) -> None:
    """A webhook that none of the jobs here is told to."""
    session.add(Webhook(id=webhook, tenant=tenant, url="https://example.com/", events=[], description=mark))
    session.flush()
    session.add(WebhookSecret(tenant=tenant, webhook_id=webhook, secret=b"p:whsec_c2VjcmV0"))
    session.add(
        WebhookDelivery(
            id=delivery, tenant=tenant, webhook_id=webhook, endpoint=webhook, type="webhook.test", body=mark
        )
    )


def _transcribed(sessions: Sessions, tenant: str, mark: str, version: uuid.UUID, voice: uuid.UUID) -> uuid.UUID:
    """A completed job whose transcript is in the rows alone."""
    job_id = make_job(sessions, tenant=tenant, filename=mark, language="en", title=mark, tags=[mark])
    with job_transaction(sessions, job_id) as tx:
        add = tx.session.add
        add(Chunk(job_id=job_id, index=0, start=0.0, end=10.0, key=mark))
        for label, whose in ((tenant, voice), (f"{tenant} too", None)):
            add(StoredSpeaker(job_id=job_id, label=label, name=mark, voice_id=whose, vector=[0.0]))
        tx.session.flush()
        add(StoredTurn(job_id=job_id, index=0, start=0.0, end=9.0, speaker=tenant))
        add(
            StoredHypothesis(
                job_id=job_id, chunk=0, role=Role.DRAFT, engine={"name": mark}, content={}, original=b"p:[]"
            )
        )
        # the last two are corrected alike, which proposes a term
        for index in range(SEGMENT, SEGMENT + 4):
            corrected = {"text": f"{tenant}-1", "machine": {"text": f"{tenant}-2"}, "source": SegmentSource.HUMAN}
            words = [{"text": word, "start": index, "end": index + 1, "confidence": 1} for word in mark.split()]
            add(
                StoredSegment(
                    job_id=job_id,
                    index=index,
                    chunk=0,
                    start=index,
                    end=index + 1,
                    speaker=tenant,
                    language="en",
                    confidence=1.0,
                    words=words,
                    **(corrected if index > SEGMENT + 1 else {"text": mark, "source": SegmentSource.REFINED}),
                )
            )
        refresh(tx.session, tx.job, [0])
        asked = {"question": mark}
        failed = {"status": ReadingStatus.FAILED, "error_code": mark, "error_message": mark}
        add(Reading(job_id=job_id, number=READING, kind=ReadingKind.ANSWER, request=asked, **failed))
        add(Signal(job_id=job_id, tenant=tenant, role=Role.DRAFT, version_id=version, errors=0.0))
        tx.skip_open_steps()
        models = {"embed": {"engine": "x", "model": "x"}}
        _end(tx.job, transcript_prefix=f"jobs/{job_id}/{tenant}/", ingested=True, chunks=1, models=models)
        tx.emit(EventType.JOB_COMPLETED, {"filename": mark})
    return job_id


def _training_job(sessions: Sessions, tenant: str, purpose: JobPurpose) -> uuid.UUID:
    job_id = make_job(sessions, tenant=tenant, filename=tenant, purpose=purpose, bytes=0)
    with job_transaction(sessions, job_id) as tx:
        tx.skip_open_steps()
        _end(tx.job)
        tx.emit(EventType.JOB_COMPLETED, {"filename": tenant})
    return job_id


def _end(job: Job, **values: Any) -> None:
    job.status, job.completed_at = JobStatus.COMPLETED, datetime.now(UTC)
    for name, value in values.items():
        setattr(job, name, value)


def _sample(export: uuid.UUID, job_id: uuid.UUID, mark: str) -> Sample:
    return Sample(
        export_id=export,
        job_id=job_id,
        segment=SEGMENT,
        chunk=0,
        candidate={},
        text=mark,
        fingerprint=mark,
        text_hash=mark,
        speaker=mark,
        seconds=1.0,
        human=False,
    )
