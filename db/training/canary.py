"""The rollout of a canary: its jobs' signals are compared with the incumbent's, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import ModelVersion, Signal, VersionState
from db.training import versions

MAX_COMPARED_JOBS = 200
"""A canary is compared with this many of the incumbent's latest jobs."""

MAX_AGREEMENT_LOSS = 0.03
MAX_REJECTED_GAIN = 0.10
MAX_RTF_RATIO = 1.5
RTF_SLACK = 0.02
MAX_ERRORS_GAIN = 0.02
"""How much worse than the incumbent a canary may be. Speed is a ratio, with slack for fast models."""


@dataclass(frozen=True, slots=True)
class SignalAverages:
    """Averages of the signals of some jobs; None where no job has a value."""

    jobs: int
    agreement: float | None
    rejected: float | None
    rtf: float | None
    errors: float | None


def find_regression(canary: SignalAverages, incumbent: SignalAverages) -> str | None:
    """Where a canary is worse than it may be, as a sentence."""

    def both(ours: float | None, theirs: float | None) -> tuple[float, float] | None:
        return None if ours is None or theirs is None else (ours, theirs)

    if (pair := both(canary.agreement, incumbent.agreement)) and pair[0] < pair[1] - MAX_AGREEMENT_LOSS:
        return f"Its drafts agree with the refinement by {pair[0]:.3f}, the incumbent's by {pair[1]:.3f}."
    if (pair := both(canary.rejected, incumbent.rejected)) and pair[0] > pair[1] + MAX_REJECTED_GAIN:
        return f"{pair[0]:.0%} of its chunks are too far from the refinement, of the incumbent's {pair[1]:.0%}."
    if (pair := both(canary.rtf, incumbent.rtf)) and pair[0] > MAX_RTF_RATIO * pair[1] + RTF_SLACK:
        return f"It takes {pair[0]:.3f} s for a second of sound, the incumbent {pair[1]:.3f} s."
    if (pair := both(canary.errors, incumbent.errors)) and pair[0] > pair[1] + MAX_ERRORS_GAIN:
        return f"It gave up on {pair[0]:.0%} of its chunks, the incumbent on {pair[1]:.0%}."
    return None


def average_signals(
    session: Session, version: ModelVersion | None, tenant: str, *, current_stage: bool = False
) -> SignalAverages:
    """Over the latest jobs of a version (of its ``current_stage`` alone), or of the catalogue's model (None)."""
    query = select(Signal).where(
        Signal.tenant == tenant, Signal.version_id.is_not_distinct_from(version.id if version else None)
    )
    if current_stage and version is not None:
        query = query.where(Signal.at >= version.staged_at)
    latest = query.order_by(Signal.at.desc()).limit(MAX_COMPARED_JOBS).subquery()
    row = session.execute(
        select(
            func.count(),
            *(func.avg(latest.c[name]) for name in ("agreement", "rejected", "rtf", "errors")),
        ).select_from(latest)
    ).one()
    return SignalAverages(*row)


def review(session: Session, tenant: str, jobs_per_stage: int) -> None:
    """Advance a canary after ``jobs_per_stage`` jobs; roll it back from a quarter of them on if it regresses."""
    if not versions.in_state(session, tenant, VersionState.CANARY):
        return
    versions.lock(session, tenant)
    session.expire_all()
    for canary in versions.in_state(session, tenant, VersionState.CANARY):
        averages = average_signals(session, canary, tenant, current_stage=True)
        if averages.jobs < min(jobs_per_stage, max(3, jobs_per_stage // 4)):
            return
        incumbent = average_signals(session, versions.serving(session, tenant), tenant)
        regression = find_regression(averages, incumbent)
        if regression is not None:
            versions.roll_back(session, canary, f"At {canary.stage} %: {regression}")
        elif averages.jobs >= jobs_per_stage and canary.stage == versions.STAGE_PERCENTS[-1]:
            versions.promote(session, canary, f"It held on {averages.jobs} jobs at every stage.")
        elif averages.jobs >= jobs_per_stage:
            stage = versions.STAGE_PERCENTS[versions.STAGE_PERCENTS.index(canary.stage) + 1]
            reason = f"It held on {averages.jobs} jobs."
            versions.set_state(session, canary, VersionState.CANARY, stage, reason)
