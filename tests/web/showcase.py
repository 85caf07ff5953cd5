"""A tenant with something on every page, for pictures of them and for what has to be tried on full pages."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.access import keys
from db.models import (
    Chunk,
    Export,
    FineTune,
    Job,
    JobPurpose,
    JobStatus,
    ModelVersion,
    Priority,
    Role,
    Scope,
    SegmentSource,
    Signal,
    Step,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
    UsageRecord,
    VersionState,
    VoiceStatus,
)
from db.session import Sessions
from tests.jobs import make_job

NOW = datetime.now(UTC)
LONG_NAME = (
    "2026-03-14 Quarterly all-hands with questions from every office (recorded by the second camera) final v2.mov"
)

DONE: dict[str, Any] = {"status": JobStatus.COMPLETED, "transcript_prefix": "x", "percent": 100}
FAILED: dict[str, Any] = {"status": JobStatus.FAILED, "error_message": "It is no audio."}
RUNNING: dict[str, Any] = {"status": JobStatus.PROCESSING}
COUNTS = ("chunks", "drafted", "refined", "final")

RECORDINGS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    (
        "Interview with Ada Lovelace.m4a",
        2520,
        {**RUNNING, "counts": (84, 84, 31, 30), "percent": 52, "language": "en"},
    ),
    (LONG_NAME, 5391, {**RUNNING, "counts": (180, 45, 12, 10), "percent": 17}),
    ("podcast-episode-112.mp3", 0, {}),
    ("Board meeting.wav", 3722, {**DONE, "language": "en", "degraded": True}),
    ("产品评审会议.m4a", 1840, {**DONE, "language": "zh"}),
    ("Réunion d’équipe.mp3", 1264, {**DONE, "language": "fr"}),
    ("notes.pdf", 0, {**FAILED, "error_code": "audio_unreadable"}),
    ("Lecture 7 – Operating systems.mp4", 5400, {**DONE, "language": "en"}),
    ("voicemail.amr", 48, {"status": JobStatus.CANCELLED}),
)
VERSIONS: tuple[tuple[VersionState, float, float, str], ...] = (
    (VersionState.RETIRED, 0.164, 0.148, "Version 3 took its place."),
    (VersionState.REJECTED, 0.148, 0.151, "It does not beat its base."),
    (VersionState.SERVING, 0.148, 0.121, "It held on 20 jobs at every stage."),
    (VersionState.CANARY, 0.121, 0.109, "It held on 20 jobs."),
)


@dataclass(frozen=True)
class Showcase:
    """Ids of what can be looked at in pages of their own."""

    jobs: dict[str, uuid.UUID]


def fill(sessions: Sessions, tenant: str) -> Showcase:
    jobs = {
        name: _recording(sessions, tenant, name, seconds, values, age)
        for age, (name, seconds, values) in enumerate(RECORDINGS)
    }
    with sessions.begin() as session:
        _voices(session, tenant, jobs["Board meeting.wav"])
        _versions(session, tenant)
        _usage(session, tenant)
        for name, scopes in (
            ("Newsroom importer", {Scope.JOBS_READ, Scope.JOBS_WRITE}),
            ("Ada’s laptop", set(Scope)),
            ("Archive", {Scope.JOBS_READ}),
        ):
            keys.create(
                session,
                tenant=tenant,
                name=name,
                scopes=scopes,
                max_priority=Priority.NORMAL,
                expires_at=NOW + timedelta(days=90) if name == "Archive" else None,
            )
    _training(sessions, tenant)
    with sessions.begin() as session:
        # the recordings are made up: nobody is to work on them, or to wait until somebody has
        session.execute(delete(Step).where(Step.job_id.in_(select(Job.id).where(Job.tenant == tenant))))
    return Showcase(jobs)


def _recording(
    sessions: Sessions, tenant: str, name: str, seconds: float, values: dict[str, Any], age: int
) -> uuid.UUID:
    job_id = make_job(sessions, tenant=tenant, filename=name, bytes=int(seconds * 16_000) + 1)
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        job.created_at = NOW - timedelta(minutes=3 + 47 * age * age)
        job.started_at = job.created_at
        job.duration = seconds or None
        job.ingested = bool(seconds)
        for field, value in zip(COUNTS, values.get("counts", ()), strict=False):
            setattr(job, field, value)
        for field, value in values.items():
            if field != "counts":
                setattr(job, field, value)
    return job_id


def _voices(session: Session, tenant: str, heard_in: uuid.UUID) -> None:
    for name, status, seconds in (
        ("Ada Lovelace", VoiceStatus.READY, 41.0),
        ("Grace Hopper", VoiceStatus.READY, 18.5),
        ("王小明", VoiceStatus.PENDING, None),
    ):
        voice = StoredVoice(
            id=uuid.uuid4(),
            tenant=tenant,
            name=name,
            status=status,
            seconds=seconds,
            training=name != "Grace Hopper",
        )
        if status is VoiceStatus.READY:
            voice.vector, voice.model = [1.0], "campplus"
        session.add(voice)
        if name == "Ada Lovelace":
            session.add(Chunk(job_id=heard_in, index=0, start=0, end=30, key="chunk"))
            session.add(StoredSpeaker(job_id=heard_in, label="A", name=name, voice_id=voice.id, vector=[1.0]))
            session.flush()
            said = "The engine weaves algebraical patterns."
            session.add(
                StoredSegment(
                    job_id=heard_in,
                    index=0,
                    chunk=0,
                    start=2,
                    end=9,
                    text=said,
                    speaker="A",
                    confidence=1,
                    source=SegmentSource.REFINED,
                    words=[],
                )
            )
    failed = StoredVoice(id=uuid.uuid4(), tenant=tenant, name="Meeting room", status=VoiceStatus.FAILED)
    failed.error_code, failed.error_message = "voice_not_alone", "Several people speak."
    session.add(failed)


def _versions(session: Session, tenant: str) -> None:
    for number, (state, before, after, reason) in enumerate(VERSIONS, 1):
        at = NOW - timedelta(days=7 * (len(VERSIONS) - number))
        version = ModelVersion(
            id=uuid.uuid4(),
            tenant=tenant,
            number=number,
            role=Role.DRAFT,
            engine="sensevoice",
            state=state,
            stage={VersionState.SERVING: 100, VersionState.CANARY: 50}.get(state, 0),
            reason=reason,
            created_at=at,
            staged_at=at,
            base="sensevoice-small",
            metrics={
                "cer": {"base": before, "tuned": after, "export": after, "served": before + 0.02},
                "losses": [2.1, 1.4, 1.1, 0.96, 0.9],
                "clips": {"train": 1800 * number, "val": 200},
                "seconds": 9000.0 * number,
            },
            files={},
        )
        session.add(version)
        session.flush()
        if state in (VersionState.SERVING, VersionState.CANARY):
            for _ in range(12):
                job = Job(
                    id=uuid.uuid4(),
                    tenant=tenant,
                    filename="signal",
                    bytes=1,
                    sha256="0",
                    source_key="s",
                    options={},
                    deleted_at=NOW,
                )
                session.add(job)
                session.flush()
                session.add(
                    Signal(
                        job_id=job.id,
                        role=Role.DRAFT,
                        tenant=tenant,
                        version_id=version.id,
                        agreement=1 - after,
                        rejected=0.03,
                        rtf=0.04,
                        errors=0.0,
                    )
                )


def _usage(session: Session, tenant: str) -> None:
    for age in range(28):
        seconds = 3600 * (1 + (age * 7919) % 11) * (0.2 if age % 7 in (2, 3) else 1)
        for stage, model in (("upload", None), ("draft", "sensevoice-small"), ("refine", "whisper-base")):
            session.add(
                UsageRecord(
                    tenant=tenant,
                    job_id=uuid.uuid4(),
                    stage=stage,
                    engine=model and "engine",
                    model=model,
                    audio_seconds=seconds * (1 if model is None else 0.9),
                    bytes=int(seconds * 16_000) if model is None else 0,
                    at=NOW - timedelta(days=age),
                )
            )


def _training(sessions: Sessions, tenant: str) -> None:
    for age in range(3):
        export = make_job(sessions, tenant=tenant, filename="", purpose=JobPurpose.EXPORT, bytes=0)
        day = (NOW - timedelta(days=age + 1)).date()
        since = datetime(day.year, day.month, day.day, tzinfo=UTC)
        with sessions.begin() as session:
            job = session.get_one(Job, export)
            job.status, job.transcript_prefix, job.created_at = JobStatus.COMPLETED, "x", NOW - timedelta(days=age)
            summary = {
                "splits": {
                    "train": {"clips": 412 - age * 40, "hours": 0.71 - age * 0.1, "persons": 9},
                    "val": {"clips": 48, "hours": 0.08, "persons": 2},
                },
                "rejections": {"disagreement": 120 + age, "noisy": 14},
            }
            session.add(
                Export(
                    job_id=export,
                    tenant=tenant,
                    date=day,
                    since=since,
                    until=since + timedelta(days=1),
                    dry_run=False,
                    filters={},
                    cleaning={},
                    summary=summary,
                )
            )
    tuning = make_job(sessions, tenant=tenant, filename="", purpose=JobPurpose.FINETUNE, bytes=0)
    with sessions.begin() as session:
        session.get_one(Job, tuning).status = JobStatus.PROCESSING
        session.add(
            FineTune(
                job_id=tuning,
                tenant=tenant,
                role=Role.DRAFT,
                exports=[],
                seconds=4200.0,
                automatic=True,
                options={},
            )
        )
