"""How much of its limits a tenant uses, and whether there is room for more.

Audio counts when it has been cut, in the month of that moment; until then, by what its file declares. Stored bytes
are those of recordings, until the recording is erased. Jobs at once are transcriptions and enrolments.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Float, cast, delete, func, insert, select
from sqlalchemy.orm import Session

from db.access import usage
from db.access.tenants import Limits, limits
from db.models import Job, JobPurpose, JobStatus, Step, StepState, StoredBytes
from db.settings import Settings

JOBS_RETRY_SECONDS = 30
BYTES_RETRY_SECONDS = 3600
"""Nobody knows when a tenant deletes something."""


class Quota(StrEnum):
    """Limits counted in Postgres."""

    JOBS = "jobs"
    AUDIO_HOURS = "audio_hours"
    STORED_BYTES = "stored_bytes"


class QuotaExceeded(Exception):
    """A tenant has no room for what it asked for. The message is one sentence that says what to do."""

    def __init__(self, quota: Quota, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.quota, self.retry_after = quota, retry_after

    @property
    def code(self) -> str:
        return f"quota_{self.quota}"


@dataclass(frozen=True, slots=True)
class Use:
    """What a tenant uses of the limits that are counted in Postgres."""

    audio_hours_month: float = 0.0
    stored_bytes: int = 0
    jobs_at_once: int = 0
    steps_at_once: int = 0
    """In work, of the kind that has most."""


AT_WORK = Job.status.in_((JobStatus.QUEUED, JobStatus.PROCESSING)) & Job.deleted_at.is_(None)
IS_RECORDING = Job.purpose == JobPurpose.RECORDING


def check_upload(session: Session, settings: Settings, tenant: str, size: int) -> None:
    """Whether a recording of at least ``size`` bytes may come, before it is sent. Raises QuotaExceeded."""
    _check_upload(session, limits(session, tenant, settings), tenant, size)


def admit_upload(session: Session, settings: Settings, tenant: str, size: int) -> None:
    """The same, exact however many come at once, in the transaction that inserts its job. Raises QuotaExceeded."""
    allowed = limits(session, tenant, settings)
    if allowed.counted:
        lock(session, tenant)
        _check_upload(session, allowed, tenant, size)


def admit_retry(session: Session, settings: Settings, job: Job) -> None:
    """The same for a job that had ended and is to go on, in the transaction that changes it."""
    allowed = limits(session, job.tenant, settings)
    if allowed.counted:
        lock(session, job.tenant)
        _check_jobs(session, allowed, job.tenant)
        if not job.ingested:
            _check_hours(session, allowed, job.tenant)


def check_audio(session: Session, settings: Settings, job: Job, seconds: float) -> float | None:
    """Whether the month has room for the job's recording, of that length. Raises QuotaExceeded.

    Returns the seconds that there is room for, None where there is no limit. Takes the lock: what the job's row
    then says of its length counts for the checks of others, once it is committed.
    """
    allowed = limits(session, job.tenant, settings).audio_hours_month
    if allowed is None:
        return None
    lock(session, job.tenant)
    left = _seconds_left(session, job.tenant, allowed, besides=job.id)
    if seconds > left or left <= 0:
        raise _no_audio_left(allowed)
    return left


def lock(session: Session, tenant: str) -> None:
    """Let one transaction at a time check a tenant's quotas and use them. A job that is there is locked before."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"quotas of {tenant}", 0))))


def use(session: Session, tenants: Sequence[str]) -> dict[str, Use]:
    """What tenants use now."""
    return {
        tenant: Use(
            audio_hours_month=_used_seconds(session, tenant) / 3600,
            stored_bytes=_stored_bytes(session, tenant),
            jobs_at_once=_jobs(session, tenant),
            steps_at_once=_steps(session, tenant),
        )
        for tenant in tenants
    }


def sum_up(session: Session) -> None:
    """Replace the changes of what tenants store by their sums. Others may add changes meanwhile."""
    many = select(StoredBytes.tenant).group_by(StoredBytes.tenant).having(func.count() > 1)
    gone = delete(StoredBytes).where(StoredBytes.tenant.in_(many)).returning(StoredBytes).cte("gone")
    sums = select(gone.c.tenant, func.sum(gone.c.bytes)).group_by(gone.c.tenant)
    session.execute(insert(StoredBytes).from_select(["tenant", "bytes"], sums))


def month_start(now: datetime | None = None) -> datetime:
    """When the month began, in UTC."""
    now = (now or datetime.now(UTC)).astimezone(UTC)
    return datetime(now.year, now.month, 1, tzinfo=UTC)


def month_end(now: datetime | None = None) -> datetime:
    """When it ends."""
    return month_start(month_start(now) + timedelta(days=32))


def _check_upload(session: Session, allowed: Limits, tenant: str, size: int) -> None:
    _check_jobs(session, allowed, tenant)
    if allowed.stored_bytes is not None and _stored_bytes(session, tenant) + size > allowed.stored_bytes:
        raise QuotaExceeded(
            Quota.STORED_BYTES,
            f"This tenant may keep {allowed.stored_bytes} bytes of recordings; this one is beyond. Delete jobs.",
            BYTES_RETRY_SECONDS,
        )
    _check_hours(session, allowed, tenant)


def _check_hours(session: Session, allowed: Limits, tenant: str) -> None:
    hours = allowed.audio_hours_month
    if hours is not None and _seconds_left(session, tenant, hours) <= 0:
        raise _no_audio_left(hours)


def _check_jobs(session: Session, allowed: Limits, tenant: str) -> None:
    if allowed.jobs_at_once is None:
        return
    running = _jobs(session, tenant)
    if running >= allowed.jobs_at_once:
        raise QuotaExceeded(
            Quota.JOBS,
            f"{running} recordings of this tenant wait or are in work, and {allowed.jobs_at_once} may be; come "
            "back when one is done, or cancel one.",
            JOBS_RETRY_SECONDS,
        )


def _jobs(session: Session, tenant: str) -> int:
    return session.scalar(select(func.count()).where(Job.tenant == tenant, AT_WORK, IS_RECORDING)) or 0


def _steps(session: Session, tenant: str) -> int:
    by_kind = (
        select(func.count().label("steps"))
        .join_from(Step, Job, Step.job_id == Job.id)
        .where(Step.state == StepState.LEASED, Job.tenant == tenant)
        .group_by(Step.kind)
        .subquery()
    )
    return session.scalar(select(func.max(by_kind.c.steps))) or 0


def _stored_bytes(session: Session, tenant: str) -> int:
    return int(session.scalar(select(func.sum(StoredBytes.bytes)).where(StoredBytes.tenant == tenant)) or 0)


def _seconds_left(session: Session, tenant: str, hours: float, besides: uuid.UUID | None = None) -> float:
    return hours * 3600 - _used_seconds(session, tenant, besides)


def _used_seconds(session: Session, tenant: str, besides: uuid.UUID | None = None) -> float:
    """Of this month, with what is being cut; a job can be left out of that."""
    under_way = select(func.sum(cast(Job.duration, Float))).where(
        Job.tenant == tenant, AT_WORK, IS_RECORDING, ~Job.ingested
    )
    if besides is not None:
        under_way = under_way.where(Job.id != besides)
    # in this order: what is cut in between counts twice rather than never
    cutting = session.scalar(under_way) or 0.0
    return cutting + usage.audio_seconds_since(session, tenant, month_start())


def _no_audio_left(hours: float) -> QuotaExceeded:
    end = month_end()
    wait = max(1, round((end - datetime.now(UTC)).total_seconds()))
    message = (
        f"This tenant's {hours:g} hours of audio for the month have no room for this recording; send or retry it "
        f"after {end:%Y-%m-%d %H:%M} UTC, or have the quota raised."
    )
    return QuotaExceeded(Quota.AUDIO_HOURS, message, wait)
