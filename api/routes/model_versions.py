"""``/v1/model-versions``: the tuned models of a tenant, which of them serves, and what came of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.dependencies import SessionDep, Tenant, find_by_id, needs
from api.problems import Problem
from api.training_report import Report, report
from db.models import ModelVersion, Role, Scope, VersionState
from db.training import canary, versions

router = APIRouter(prefix="/v1/model-versions", dependencies=[needs(Scope.TRAINING)], tags=["training"])


class Record(BaseModel):
    """What finished jobs say of a model, on average."""

    jobs: int
    agreement: float | None = Field(
        description="1 - character error rate of draft and refinement against each other."
    )
    rejected: float | None = Field(description="Share of chunks in which they differ too much.")
    rtf: float | None = Field(description="Seconds of drafting, or refining, for a second of sound.")
    errors: float | None = Field(description="Share of chunks that were given up on.")
    loops: float | None = Field(description="Share of chunks in which it repeats itself.")
    corrections: float | None = Field(description="Segments that people changed, a minute of what they corrected.")


class VersionView(BaseModel):
    id: uuid.UUID
    number: int
    role: Role
    engine: str = Field(description="`sensevoice` or `whisper`.")
    state: VersionState
    stage: int = Field(description="Percentage of new jobs that it drafts or refines.")
    reason: str | None
    created_at: datetime
    staged_at: datetime | None
    finetune_id: uuid.UUID | None
    base: str
    metrics: dict[str, Any]
    files: dict[str, Any]
    record: Record

    @classmethod
    def of(cls, session: Session, version: ModelVersion) -> VersionView:
        averages = canary.average_signals(session, version, version.tenant, version.role)
        return cls(
            **{name: getattr(version, name) for name in cls.model_fields if name != "record"},
            record=Record.model_validate(averages, from_attributes=True),
        )


class VersionPage(BaseModel):
    data: list[VersionView]


@router.get("", response_model=VersionPage)
def list_versions(session: SessionDep, tenant: Tenant) -> VersionPage:
    """Model versions, newest first."""
    return VersionPage(
        data=[VersionView.of(session, version) for version in versions.newest_first(session, tenant)]
    )


@router.get("/report", response_model=Report, dependencies=[needs(Scope.JOBS_READ)])
def show_report(session: SessionDep, tenant: Tenant, weeks: Annotated[int, Query(ge=1, le=104)] = 12) -> Report:
    """Error rates by week, voice and language; what was learnt; and what it cost.

    The clips that were learnt are named with their words: it wants the scope `jobs:read`, too.
    """
    return report(session, tenant, weeks)


@router.get("/{version_id}", response_model=VersionView)
def show_version(version_id: str, session: SessionDep, tenant: Tenant) -> VersionView:
    return VersionView.of(session, _find(session, tenant, version_id))


@router.post("/{version_id}/promote", response_model=VersionView)
def promote_version(version_id: str, session: SessionDep, tenant: Tenant) -> VersionView:
    """Have a version draft, or refine, all new jobs, whatever its canary says."""
    return _transition(
        session, tenant, version_id, lambda version: versions.promote(session, version, "It was promoted.")
    )


@router.post("/{version_id}/rollback", response_model=VersionView)
def roll_back_version(version_id: str, session: SessionDep, tenant: Tenant) -> VersionView:
    """Give a version no more jobs; the one before it serves again."""
    return _transition(
        session,
        tenant,
        version_id,
        lambda version: versions.roll_back(session, version, "It was rolled back by hand."),
    )


def _transition(
    session: Session, tenant: str, version_id: str, transition: Callable[[ModelVersion], None]
) -> VersionView:
    version = _find(session, tenant, version_id)
    try:
        transition(version)
    except versions.InvalidTransition as error:
        raise Problem(409, "version_not_possible", "Not possible", str(error)) from error
    session.commit()
    return VersionView.of(session, version)


def _find(session: Session, tenant: str, version_id: str) -> ModelVersion:
    version = find_by_id(versions.get, session, tenant, version_id)
    if version is None:
        raise Problem(404, "version_not_found", "Version not found", f"There is no model version {version_id!r}.")
    return version
