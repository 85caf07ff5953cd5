"""The rollout of a canary: its jobs' signals are compared with the incumbent's, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Subquery, func, select
from sqlalchemy.orm import Session

from db.models import Job, ModelVersion, Role, Signal, StoredSegment, VersionState
from db.training import versions

MAX_COMPARED_JOBS = 200
"""A canary is compared with this many of the incumbent's latest jobs."""

MAX_AGREEMENT_LOSS = {Role.DRAFT: 0.03, Role.REFINED: 0.15}
MAX_REJECTED_GAIN = {Role.DRAFT: 0.10, Role.REFINED: 0.30}
"""A refinement that has learnt what the drafts do not know agrees less with them: only a collapse counts."""
MAX_RTF_RATIO = 1.5
RTF_SLACK = 0.02
MAX_ERRORS_GAIN = 0.02
MAX_LOOPS_GAIN = 0.02
MAX_CORRECTIONS_RATIO = 1.5
CORRECTIONS_SLACK = 0.5
"""How much worse than the incumbent a canary may be. Speed is a ratio, with slack for fast models; so are
corrections, with slack for where there are few."""
MIN_CORRECTED_JOBS = 5
"""With fewer, it is unknown how much people correct."""


@dataclass(frozen=True, slots=True)
class SignalAverages:
    """Averages of the signals of some jobs; None where no job has a value."""

    jobs: int
    agreement: float | None
    rejected: float | None
    rtf: float | None
    errors: float | None
    loops: float | None = None
    corrections: float | None = None
    """Segments that people changed, a minute of the recordings in which they changed any."""


def find_regression(role: Role, canary: SignalAverages, incumbent: SignalAverages) -> str | None:
    """Where a canary is worse than it may be, as a sentence."""

    def both(ours: float | None, theirs: float | None) -> tuple[float, float] | None:
        return None if ours is None or theirs is None else (ours, theirs)

    works = "drafts" if role == Role.DRAFT else "refinements"
    other = "the refinement" if role == Role.DRAFT else "the drafts"
    if (pair := both(canary.agreement, incumbent.agreement)) and pair[0] < pair[1] - MAX_AGREEMENT_LOSS[role]:
        return f"Its {works} agree with {other} by {pair[0]:.3f}, the incumbent's by {pair[1]:.3f}."
    if (pair := both(canary.rejected, incumbent.rejected)) and pair[0] > pair[1] + MAX_REJECTED_GAIN[role]:
        return f"{pair[0]:.0%} of its chunks are too far from {other}, of the incumbent's {pair[1]:.0%}."
    if (pair := both(canary.rtf, incumbent.rtf)) and pair[0] > MAX_RTF_RATIO * pair[1] + RTF_SLACK:
        return f"It takes {pair[0]:.3f} s for a second of sound, the incumbent {pair[1]:.3f} s."
    if (pair := both(canary.errors, incumbent.errors)) and pair[0] > pair[1] + MAX_ERRORS_GAIN:
        return f"It gave up on {pair[0]:.0%} of its chunks, the incumbent on {pair[1]:.0%}."
    if (pair := both(canary.loops, incumbent.loops)) and pair[0] > pair[1] + MAX_LOOPS_GAIN:
        return f"It repeats itself in {pair[0]:.0%} of its chunks, the incumbent in {pair[1]:.0%}."
    if (pair := both(canary.corrections, incumbent.corrections)) and (
        pair[0] > MAX_CORRECTIONS_RATIO * pair[1] + CORRECTIONS_SLACK
    ):
        return f"People correct {pair[0]:.1f} segments a minute of its, of the incumbent's {pair[1]:.1f}."
    return None


def average_signals(
    session: Session, version: ModelVersion | None, tenant: str, role: Role, *, since: datetime | None = None
) -> SignalAverages:
    """Over the latest jobs of a version, or of the catalogue's model (None)."""
    latest = _latest_signals(version, tenant, role, since)
    names = ("agreement", "rejected", "rtf", "errors", "loops")
    row = session.execute(
        select(func.count(), *(func.avg(latest.c[name]) for name in names)).select_from(latest)
    ).one()
    changed = (
        select(func.count())
        .where(StoredSegment.job_id == Job.id, StoredSegment.machine.is_not(None))
        .scalar_subquery()
    )
    corrected = session.execute(
        select(func.count(), func.sum(changed), func.sum(Job.duration)).where(
            Job.id.in_(select(latest.c.job_id)), Job.corrected_at.is_not(None)
        )
    ).one()
    jobs, segments, seconds = corrected
    is_known = jobs >= MIN_CORRECTED_JOBS and seconds
    return replace(SignalAverages(*row), corrections=float(segments) / (seconds / 60) if is_known else None)


def _latest_signals(version: ModelVersion | None, tenant: str, role: Role, since: datetime | None) -> Subquery:
    query = select(Signal).where(
        Signal.tenant == tenant,
        Signal.role == role,
        Signal.version_id.is_not_distinct_from(version.id if version else None),
    )
    if since is not None:
        query = query.where(Signal.at >= since)
    return query.order_by(Signal.at.desc()).limit(MAX_COMPARED_JOBS).subquery()


def review(session: Session, tenant: str, role: Role, jobs_per_stage: int) -> None:
    """Advance a canary after ``jobs_per_stage`` jobs; roll it back from a quarter of them on if it regresses."""
    if not versions.has_canary(session, tenant, role):
        return
    versions.lock(session, tenant)
    session.expire_all()
    for canary in versions.in_state(session, tenant, role, VersionState.CANARY):
        averages = average_signals(session, canary, tenant, role, since=canary.staged_at)
        if averages.jobs < min(jobs_per_stage, max(3, jobs_per_stage // 4)):
            return
        serving = versions.serving(session, tenant, role)
        incumbent = average_signals(session, serving, tenant, role)
        # how busy the machine is changes by the hour
        meanwhile = _latest_signals(serving, tenant, role, canary.created_at)
        if (rtf := session.scalar(select(func.avg(meanwhile.c.rtf)))) is not None:
            incumbent = replace(incumbent, rtf=rtf)
        regression = find_regression(role, averages, incumbent)
        if regression is not None:
            versions.roll_back(session, canary, f"At {canary.stage} %: {regression}")
        elif averages.jobs >= jobs_per_stage and canary.stage == versions.STAGE_PERCENTS[-1]:
            versions.promote(session, canary, f"It held on {averages.jobs} jobs at every stage.")
        elif averages.jobs >= jobs_per_stage:
            stage = versions.STAGE_PERCENTS[versions.STAGE_PERCENTS.index(canary.stage) + 1]
            reason = f"It held on {averages.jobs} jobs."
            versions.set_state(session, canary, VersionState.CANARY, stage, reason)
