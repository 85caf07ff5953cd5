"""``/v1/model-versions``: the tuned draft models of a tenant, and which of them serves."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.dependencies import DbSession, Tenant, look_up
from api.problems import Problem
from db.models import ModelVersion, VersionState
from db.training import versions

router = APIRouter(prefix="/v1/model-versions", tags=["training"])


class Record(BaseModel):
    """What finished jobs say of a draft model, on average."""

    jobs: int
    agreement: float | None = Field(description="1 - character error rate against the refinement.")
    rejected: float | None = Field(description="Share of chunks too far from the refinement.")
    rtf: float | None = Field(description="Seconds of drafting for a second of sound.")
    errors: float | None = Field(description="Share of chunks that drafting gave up on.")


class VersionView(BaseModel):
    id: uuid.UUID
    number: int
    state: VersionState
    stage: int = Field(description="Percentage of new jobs that it drafts.")
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
        record = versions.record(session, version, version.tenant)
        return cls(
            **{name: getattr(version, name) for name in cls.model_fields if name != "record"},
            record=Record.model_validate(record, from_attributes=True),
        )


class VersionPage(BaseModel):
    data: list[VersionView]


@router.get("", response_model=VersionPage)
def list_versions(opened: DbSession, tenant: Tenant) -> VersionPage:
    """Model versions, newest first."""
    return VersionPage(data=[VersionView.of(opened, version) for version in versions.page(opened, tenant)])


@router.get("/{version_id}", response_model=VersionView)
def show_version(version_id: str, opened: DbSession, tenant: Tenant) -> VersionView:
    return VersionView.of(opened, _find(opened, tenant, version_id))


@router.post("/{version_id}/promote", response_model=VersionView)
def promote(version_id: str, opened: DbSession, tenant: Tenant) -> VersionView:
    """Have a version draft all new jobs, whatever its canary says."""
    return _change(opened, tenant, version_id, lambda found: versions.promote(opened, found, "It was promoted."))


@router.post("/{version_id}/rollback", response_model=VersionView)
def roll_back(version_id: str, opened: DbSession, tenant: Tenant) -> VersionView:
    """Give a version no more jobs; the one before it serves again."""
    return _change(
        opened, tenant, version_id, lambda found: versions.roll_back(opened, found, "It was rolled back by hand.")
    )


def _change(opened: Session, tenant: str, version_id: str, change: Callable[[ModelVersion], None]) -> VersionView:
    version = _find(opened, tenant, version_id)
    try:
        change(version)
    except versions.NotPossible as error:
        raise Problem(409, "version_not_possible", "Not possible", str(error)) from error
    opened.commit()
    return VersionView.of(opened, version)


def _find(opened: Session, tenant: str, version_id: str) -> ModelVersion:
    found = look_up(versions.get, opened, tenant, version_id)
    if found is None:
        raise Problem(404, "version_not_found", "Version not found", f"There is no model version {version_id!r}.")
    return found
