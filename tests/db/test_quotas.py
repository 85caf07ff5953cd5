"""Quotas counted in Postgres: what a tenant uses, and that nobody gets more, however many come at once."""

from __future__ import annotations

import random
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from db import jobs
from db.access import quotas, tenants
from db.access.quotas import Quota, QuotaExceeded
from db.models import Job, JobStatus, StoredBytes, UsageRecord
from db.session import Sessions
from db.settings import Settings
from tests.jobs import make_job


def allow(sessions: Sessions, tenant: str, **limits: float | None) -> None:
    with sessions.begin() as session:
        tenants.change(session, tenant, limits)


def upload(sessions: Sessions, settings: Settings, size: int = 1) -> None:
    """What an upload does in its transaction. Raises QuotaExceeded."""
    job_id = uuid.uuid4()
    with sessions.begin() as session:
        quotas.admit_upload(session, settings, "acme", size)
        columns = {"filename": "a", "sha256": "0" * 64, "options": {}, "source_key": f"jobs/{job_id}/source"}
        jobs.create(session, Job(id=job_id, tenant="acme", bytes=size, **columns))


def upload_together(sessions: Sessions, settings: Settings, count: int, size: int = 1) -> list[Quota]:
    """The quotas that refused some of ``count`` uploads at the same moment."""
    start, refused = threading.Barrier(count), []

    def run() -> None:
        start.wait()
        try:
            upload(sessions, settings, size)
        except QuotaExceeded as error:
            refused.append(error.quota)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def used(sessions: Sessions, tenant: str = "acme") -> quotas.Use:
    with sessions() as session:
        return quotas.use(session, [tenant])[tenant]


def test_rows_win_over_settings(sessions: Sessions, settings: Settings) -> None:
    limited = settings.model_copy(
        update={"tenant_audio_hours": 5.0, "tenant_jobs_at_once": 9, "tenant_limits": {"acme": 3, "*": 8}}
    )
    allow(sessions, "acme", jobs_at_once=0, stored_bytes=10)
    with sessions() as session:
        acme, other = (tenants.limits(session, name, limited) for name in ("acme", "other"))
        untouched = tenants.limits(session, "acme2", settings)
    assert (acme.audio_hours_month, acme.jobs_at_once, acme.stored_bytes, acme.steps_at_once) == (5, 0, 10, 3)
    assert (other.audio_hours_month, other.jobs_at_once, other.steps_at_once) == (5, 9, 8)
    assert not untouched.counted
    assert (untouched.requests_per_minute, untouched.event_streams, untouched.steps_at_once) == (None, None, None)


def test_sixteen_uploads_at_once_stay_within_the_jobs_allowed(sessions: Sessions, settings: Settings) -> None:
    allow(sessions, "acme", jobs_at_once=5)
    make_job(sessions, tenant="other")
    assert upload_together(sessions, settings, 16) == [Quota.JOBS] * 11
    assert used(sessions).jobs_at_once == 5


def test_sixteen_uploads_at_once_stay_within_the_bytes_allowed(sessions: Sessions, settings: Settings) -> None:
    allow(sessions, "acme", stored_bytes=1000)
    make_job(sessions, tenant="other", bytes=10**9)
    assert upload_together(sessions, settings, 16, size=300) == [Quota.STORED_BYTES] * 13
    assert used(sessions).stored_bytes == 900


def test_only_what_waits_or_works_counts_as_a_job(sessions: Sessions, settings: Settings) -> None:
    allow(sessions, "acme", jobs_at_once=2)
    make_job(sessions, tenant="acme", status="completed", transcript_prefix="x/")
    make_job(sessions, tenant="acme", status="failed", error_code="x")
    make_job(sessions, tenant="acme", purpose="export", bytes=0)
    gone = make_job(sessions, tenant="acme")
    with sessions.begin() as session:
        session.get_one(Job, gone).deleted_at = func.now()
    upload(sessions, settings)
    upload(sessions, settings)
    with pytest.raises(QuotaExceeded) as refused:
        upload(sessions, settings)
    assert (refused.value.code, refused.value.retry_after) == ("quota_jobs", quotas.JOBS_RETRY_SECONDS)


def test_hours_are_those_of_the_month_and_of_what_is_being_cut(sessions: Sessions, settings: Settings) -> None:
    allow(sessions, "acme", audio_hours_month=2.0)
    with sessions.begin() as session:
        for seconds, stage, ago in ((3600, "upload", 0), (9999, "draft", 0), (9999, "upload", 32)):
            values = {"job_id": uuid.uuid4(), "stage": stage, "audio_seconds": seconds}
            session.add(UsageRecord(tenant="acme", at=func.now() - timedelta(days=ago), **values))
        session.add(UsageRecord(tenant="other", job_id=uuid.uuid4(), stage="upload", audio_seconds=9999))
    make_job(sessions, tenant="acme", duration=900.0)
    make_job(sessions, tenant="acme", duration=900.0, ingested=True)
    mine = make_job(sessions, tenant="acme", duration=1e9)
    with sessions.begin() as session:
        job = session.get_one(Job, mine)
        assert quotas.check_audio(session, settings, job, 2700) == 2700
        with pytest.raises(QuotaExceeded) as refused:
            quotas.check_audio(session, settings, job, 2701)
    until_end = (quotas.month_end() - datetime.now(UTC)).total_seconds()
    assert refused.value.code == "quota_audio_hours"
    assert refused.value.retry_after == pytest.approx(until_end, abs=5)
    with pytest.raises(QuotaExceeded, match="audio"):
        upload(sessions, settings)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_month_ends_in_utc(now: datetime, end: datetime) -> None:
    assert quotas.month_end(now) == end


def test_stored_bytes_are_those_of_the_rows_whatever_happens_to_them(sessions: Sessions) -> None:
    """While sums are taken all the time, and some transactions come to nothing."""
    rng, stop = random.Random(5), threading.Event()
    ids: list[uuid.UUID] = []

    def sum_up() -> None:
        while not stop.is_set():
            with sessions.begin() as session:
                quotas.sum_up(session)

    summing = threading.Thread(target=sum_up)
    summing.start()
    try:
        for _ in range(60):
            if not ids or rng.random() < 0.5:
                ids.append(make_job(sessions, tenant=rng.choice(["acme", "other"]), bytes=rng.randint(1, 10**12)))
                continue
            with sessions() as session:
                job = session.get_one(Job, rng.choice(ids))
                match rng.randrange(4):
                    case 0:
                        job.deleted_at = func.now()
                    case 1:
                        job.audio_erased_at = func.now()
                    case 2:
                        job.status = JobStatus.PROCESSING
                    case 3:
                        session.delete(job)
                        ids.remove(job.id)
                session.flush()
                session.rollback() if rng.random() < 0.2 else session.commit()
                if session.get(Job, job.id) is not None and job.id not in ids:
                    ids.append(job.id)
    finally:
        stop.set()
        summing.join()
    with sessions.begin() as session:
        quotas.sum_up(session)
        kept = select(func.coalesce(func.sum(Job.bytes), 0)).where(
            Job.deleted_at.is_(None), Job.audio_erased_at.is_(None)
        )
        for tenant in ("acme", "other"):
            assert quotas.use(session, [tenant])[tenant].stored_bytes == session.scalar(
                kept.where(Job.tenant == tenant)
            )
        assert (session.scalar(select(func.count()).select_from(StoredBytes)) or 0) <= 2


def test_counting_uses_indexes(sessions: Sessions) -> None:
    with sessions.begin() as session:
        columns = "id, tenant, filename, bytes, sha256, options, source_key, status, transcript_prefix"
        session.execute(
            text(
                f"INSERT INTO jobs ({columns}) SELECT gen_random_uuid(), 'acme', '', 1, '', '{{}}', '', "  # noqa: S608
                "'completed', '' FROM generate_series(1, 20000)"
            )
        )
        quotas.sum_up(session)
        session.execute(text("ANALYZE"))
        count = select(func.count()).where(Job.tenant == "acme", quotas.AT_WORK, quotas.IS_RECORDING)
        compiled = count.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        plan = "\n".join(session.scalars(text(f"EXPLAIN {compiled}")))
    assert "ix_jobs_at_work" in plan
    assert used(sessions).stored_bytes == 20000
