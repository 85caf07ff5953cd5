"""Versions of a tenant's draft and refine models: which job gets which, and the transitions between their states.

A new version becomes a canary: it drafts (or refines) 5, then 50, then 100 % of the tenant's jobs, and then
serves. The bounds for each stage are in :mod:`db.training.canary`. The versions of one role know nothing of the
other's.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from db.models import Json, ModelVersion, Role, VersionState

STAGE_PERCENTS = (5, 50, 100)
LIVE_STATES = (VersionState.SERVING, VersionState.CANARY)
USABLE_STATES = (*LIVE_STATES, VersionState.RETIRED)
"""Versions in these states do the rest of the jobs that were assigned to them."""


class InvalidTransition(Exception):
    """The version cannot reach that state from its current one. The message is one sentence."""


def prefix(version_id: uuid.UUID) -> str:
    """S3 prefix of the version's files."""
    return f"models/{version_id}/"


def bucket(job_id: uuid.UUID, role: Role) -> int:
    """A stable number from 0 to 99: jobs below a canary's percentage are given to it.

    Those of the two roles are independent, so that neither canary is judged by the other's.
    """
    return int.from_bytes(hashlib.sha256(job_id.bytes + role.encode()).digest()[:8]) % 100


def select_for_job(session: Session, tenant: str, role: Role, job_id: uuid.UUID) -> uuid.UUID | None:
    """The version that drafts or refines a new job; None where the catalogue's own model serves."""
    live = session.scalars(_of(tenant, role).where(ModelVersion.state.in_(LIVE_STATES))).all()
    by_state = {version.state: version for version in live}
    canary = by_state.get(VersionState.CANARY)
    if canary is not None and bucket(job_id, role) < canary.stage:
        return canary.id
    serving = by_state.get(VersionState.SERVING)
    return serving.id if serving else None


def get(session: Session, tenant: str, version_id: uuid.UUID) -> ModelVersion | None:
    return session.scalar(select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.id == version_id))


def newest_first(session: Session, tenant: str) -> Sequence[ModelVersion]:
    return session.scalars(
        select(ModelVersion).where(ModelVersion.tenant == tenant).order_by(ModelVersion.number.desc())
    ).all()


def _of(tenant: str, role: Role) -> Select[ModelVersion]:
    return select(ModelVersion).where(ModelVersion.tenant == tenant, ModelVersion.role == role)


def serving(session: Session, tenant: str, role: Role) -> ModelVersion | None:
    return session.scalar(_of(tenant, role).where(ModelVersion.state == VersionState.SERVING))


def in_state(session: Session, tenant: str, role: Role, state: VersionState) -> Sequence[ModelVersion]:
    return session.scalars(_of(tenant, role).where(ModelVersion.state == state)).all()


def has_canary(session: Session, tenant: str, role: Role) -> bool:
    return bool(in_state(session, tenant, role, VersionState.CANARY))


def register(
    session: Session,
    tenant: str,
    role: Role,
    version_id: uuid.UUID,
    *,
    engine: str,
    finetune_id: uuid.UUID | None,
    base: str,
    metrics: Json,
    files: Json,
    rejection: str | None,
) -> ModelVersion:
    """A new version: a canary, which replaces a running one, or rejected for the reason ``rejection``."""
    lock(session, tenant)
    last = session.scalar(select(func.max(ModelVersion.number)).where(ModelVersion.tenant == tenant)) or 0
    version = ModelVersion(
        id=version_id,
        tenant=tenant,
        number=last + 1,
        role=role,
        engine=engine,
        finetune_id=finetune_id,
        base=base,
        metrics=metrics,
        files=files,
    )
    session.add(version)
    session.flush()
    if rejection is not None:
        set_state(session, version, VersionState.REJECTED, 0, rejection)
    else:
        start_canary(session, version)
    return version


def start_canary(session: Session, version: ModelVersion) -> None:
    """Begin at the first stage."""
    for other in in_state(session, version.tenant, version.role, VersionState.CANARY):
        set_state(session, other, VersionState.ROLLED_BACK, 0, f"Version {version.number} took its place.")
    set_state(session, version, VersionState.CANARY, STAGE_PERCENTS[0], "It is tried on the first jobs.")


def promote(session: Session, version: ModelVersion, reason: str) -> None:
    """Make it serve all jobs and retire the version that served before. Raises InvalidTransition."""
    lock(session, version.tenant)
    session.refresh(version)
    if version.state == VersionState.SERVING:
        raise InvalidTransition(f"Version {version.number} serves already.")
    # a canary never served: a later rollback must not return to it, so it is not retired
    for state, then in (
        (VersionState.SERVING, VersionState.RETIRED),
        (VersionState.CANARY, VersionState.ROLLED_BACK),
    ):
        for other in in_state(session, version.tenant, version.role, state):
            if other is not version:
                set_state(session, other, then, 0, f"Version {version.number} took its place.")
    set_state(session, version, VersionState.SERVING, 100, reason)


def roll_back(session: Session, version: ModelVersion, reason: str) -> None:
    """Assign it no more jobs; if it served, the version before it serves again. Raises InvalidTransition."""
    lock(session, version.tenant)
    session.refresh(version)
    if version.state not in LIVE_STATES:
        raise InvalidTransition(f"Version {version.number} is {version.state}: it serves no jobs.")
    served = version.state == VersionState.SERVING
    set_state(session, version, VersionState.ROLLED_BACK, 0, reason)
    if served:
        previous = session.scalar(
            _of(version.tenant, version.role)
            .where(ModelVersion.state == VersionState.RETIRED)
            .order_by(ModelVersion.staged_at.desc())
            .limit(1)
        )
        if previous is not None:
            set_state(session, previous, VersionState.SERVING, 100, f"Version {version.number} was rolled back.")


def lock(session: Session, tenant: str) -> None:
    """Serialises changes to a tenant's versions until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"versions {tenant}"))))


def set_state(session: Session, version: ModelVersion, state: VersionState, stage: int, reason: str) -> None:
    version.state, version.stage, version.reason = state, stage, reason
    version.staged_at = func.clock_timestamp()
    session.flush()
    session.refresh(version)
