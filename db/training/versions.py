"""Versions of a tenant's draft model: which job gets which, and how a new one comes to serve them all.

A candidate becomes a canary, is given 5, then 50, then 100 % of the tenant's jobs, and serves once each stage has
held. What its jobs say is compared with what the jobs of the incumbent say; where it is worse it is rolled back.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Json, ModelVersion, Signal, VersionState

STAGES = (5, 50, 100)
LIVE = (VersionState.SERVING, VersionState.CANARY)
USABLE = (*LIVE, VersionState.RETIRED)
"""What drafts the rest of a job that was given to it."""

COMPARED = 200
"""So many of the incumbent's latest jobs are what a canary is compared with."""

AGREEMENT_LOSS = 0.03
REJECTED_GAIN = 0.10
RTF_GAIN = 1.5
RTF_SLACK = 0.02
ERRORS_GAIN = 0.02
"""How much worse than the incumbent a canary may be; speed is a ratio, with slack for what is fast anyway."""


class NotPossible(Exception):
    """The version cannot be brought there from where it is. The message is one sentence."""


def prefix(version_id: uuid.UUID) -> str:
    """Where the files of a version lie."""
    return f"models/{version_id}/"


def share(job_id: uuid.UUID) -> int:
    """A number from 0 to 99 that a job keeps: those below a canary's stage are given to it."""
    return int.from_bytes(hashlib.sha256(job_id.bytes).digest()[:8]) % 100


def choose(session: Session, tenant: str, job_id: uuid.UUID) -> uuid.UUID | None:
    """The version that a new job is given to; none where the catalogue's own model serves."""
    live = session.scalars(
        select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.state.in_(LIVE))
    ).all()
    by_state = {version.state: version for version in live}
    canary = by_state.get(VersionState.CANARY)
    if canary is not None and share(job_id) < canary.stage:
        return canary.id
    serving = by_state.get(VersionState.SERVING)
    return serving.id if serving else None


def get(session: Session, tenant: str, version_id: uuid.UUID) -> ModelVersion | None:
    return session.scalar(select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.id == version_id))


def page(session: Session, tenant: str) -> Sequence[ModelVersion]:
    """Newest first."""
    return session.scalars(
        select(ModelVersion).where(ModelVersion.tenant == tenant).order_by(ModelVersion.number.desc())
    ).all()


def serving(session: Session, tenant: str) -> ModelVersion | None:
    return session.scalar(
        select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.state == VersionState.SERVING)
    )


def on_trial(session: Session, tenant: str) -> bool:
    return bool(_in(session, tenant, VersionState.CANARY))


def register(
    session: Session,
    tenant: str,
    version_id: uuid.UUID,
    *,
    finetune_id: uuid.UUID | None,
    base: str,
    metrics: Json,
    files: Json,
    refused: str | None,
) -> ModelVersion:
    """A new version: a canary, in the place of one under way, or rejected for the reason ``refused``."""
    _lock(session, tenant)
    last = session.scalar(select(func.max(ModelVersion.number)).where(ModelVersion.tenant == tenant)) or 0
    version = ModelVersion(
        id=version_id,
        tenant=tenant,
        number=last + 1,
        finetune_id=finetune_id,
        base=base,
        metrics=metrics,
        files=files,
    )
    session.add(version)
    session.flush()
    if refused is not None:
        _move(session, version, VersionState.REJECTED, 0, refused)
    else:
        canary(session, version)
    return version


def canary(session: Session, version: ModelVersion) -> None:
    """Begin at the first stage."""
    for other in _in(session, version.tenant, VersionState.CANARY):
        _move(session, other, VersionState.ROLLED_BACK, 0, f"Version {version.number} took its place.")
    _move(session, version, VersionState.CANARY, STAGES[0], "It is tried on the first jobs.")


def promote(session: Session, version: ModelVersion, reason: str) -> None:
    """Have it serve all jobs; whatever served before is retired. Raises NotPossible."""
    _lock(session, version.tenant)
    session.refresh(version)
    if version.state == VersionState.SERVING:
        raise NotPossible(f"Version {version.number} serves already.")
    # what was only on trial is nothing to go back to
    for state, then in (
        (VersionState.SERVING, VersionState.RETIRED),
        (VersionState.CANARY, VersionState.ROLLED_BACK),
    ):
        for other in _in(session, version.tenant, state):
            if other is not version:
                _move(session, other, then, 0, f"Version {version.number} took its place.")
    _move(session, version, VersionState.SERVING, 100, reason)


def roll_back(session: Session, version: ModelVersion, reason: str) -> None:
    """Give it no more jobs; the version that served before it serves again. Raises NotPossible."""
    _lock(session, version.tenant)
    session.refresh(version)
    if version.state not in LIVE:
        raise NotPossible(f"Version {version.number} is {version.state}: it serves no jobs.")
    served = version.state == VersionState.SERVING
    _move(session, version, VersionState.ROLLED_BACK, 0, reason)
    if served:
        before = session.scalar(
            select(ModelVersion)
            .where(ModelVersion.tenant == version.tenant, ModelVersion.state == VersionState.RETIRED)
            .order_by(ModelVersion.staged_at.desc())
            .limit(1)
        )
        if before is not None:
            _move(session, before, VersionState.SERVING, 100, f"Version {version.number} was rolled back.")


@dataclass(frozen=True, slots=True)
class Record:
    """What some jobs say of a draft model, on average; None where none of them says anything."""

    jobs: int
    agreement: float | None
    rejected: float | None
    rtf: float | None
    errors: float | None


def worse(canary: Record, incumbent: Record) -> str | None:
    """In what a canary is worse than it may be, as a sentence."""

    def both(mine: float | None, theirs: float | None) -> tuple[float, float] | None:
        return None if mine is None or theirs is None else (mine, theirs)

    if (pair := both(canary.agreement, incumbent.agreement)) and pair[0] < pair[1] - AGREEMENT_LOSS:
        return f"Its drafts agree with the refinement by {pair[0]:.3f}, the incumbent's by {pair[1]:.3f}."
    if (pair := both(canary.rejected, incumbent.rejected)) and pair[0] > pair[1] + REJECTED_GAIN:
        return f"{pair[0]:.0%} of its chunks are too far from the refinement, of the incumbent's {pair[1]:.0%}."
    if (pair := both(canary.rtf, incumbent.rtf)) and pair[0] > RTF_GAIN * pair[1] + RTF_SLACK:
        return f"It takes {pair[0]:.3f} s for a second of sound, the incumbent {pair[1]:.3f} s."
    if (pair := both(canary.errors, incumbent.errors)) and pair[0] > pair[1] + ERRORS_GAIN:
        return f"It gave up on {pair[0]:.0%} of its chunks, the incumbent on {pair[1]:.0%}."
    return None


def record(session: Session, version: ModelVersion | None, tenant: str, *, of_stage: bool = False) -> Record:
    """What the latest jobs say of a version, or of the catalogue's model (None); ``of_stage``: in this stage."""
    query = select(Signal).where(
        Signal.tenant == tenant, Signal.version_id.is_not_distinct_from(version.id if version else None)
    )
    if of_stage and version is not None:
        query = query.where(Signal.at >= version.staged_at)
    latest = query.order_by(Signal.at.desc()).limit(COMPARED).subquery()
    row = session.execute(
        select(
            func.count(),
            *(func.avg(latest.c[name]) for name in ("agreement", "rejected", "rtf", "errors")),
        ).select_from(latest)
    ).one()
    return Record(*row)


def review(session: Session, tenant: str, hold: int) -> None:
    """Move a canary on once its stage has held for ``hold`` jobs; roll it back as soon as it is clearly worse."""
    if not _in(session, tenant, VersionState.CANARY):
        return
    _lock(session, tenant)
    session.expire_all()
    for canary_ in _in(session, tenant, VersionState.CANARY):
        mine = record(session, canary_, tenant, of_stage=True)
        if mine.jobs < min(hold, max(3, hold // 4)):
            return
        complaint = worse(mine, record(session, serving(session, tenant), tenant))
        if complaint is not None:
            roll_back(session, canary_, f"At {canary_.stage} %: {complaint}")
        elif mine.jobs >= hold and canary_.stage == STAGES[-1]:
            promote(session, canary_, f"It held on {mine.jobs} jobs at every stage.")
        elif mine.jobs >= hold:
            stage = STAGES[STAGES.index(canary_.stage) + 1]
            _move(session, canary_, VersionState.CANARY, stage, f"It held on {mine.jobs} jobs.")


def _lock(session: Session, tenant: str) -> None:
    """Versions of a tenant change one at a time."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"versions {tenant}"))))


def _in(session: Session, tenant: str, state: VersionState) -> Sequence[ModelVersion]:
    return session.scalars(
        select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.state == state)
    ).all()


def _move(session: Session, version: ModelVersion, state: VersionState, stage: int, reason: str) -> None:
    version.state, version.stage, version.reason = state, stage, reason
    version.staged_at = func.clock_timestamp()
    session.flush()
    session.refresh(version)
