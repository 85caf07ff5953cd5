"""``/v1/finetunes``: draft and refine models tuned on exports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.dependencies import CallerDep, ServicesDep, SessionDep, Tenant, announce, find_by_id, needs
from api.problems import Problem
from api.routes.exports import find_export
from api.routes.jobs import cancel
from api.training import Limit, TrainingJobView, require_opt_in
from db.models import FineTune, Job, JobStatus, Role, Scope
from db.queue.transaction import JobTransaction, job_transaction
from db.training import finetunes, jobs

router = APIRouter(prefix="/v1/finetunes", dependencies=[needs(Scope.TRAINING)], tags=["training"])


class FineTuneRequest(BaseModel):
    """The exports to train on; by default those that no fine-tuning of the role has used, and older ones again."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(Role.DRAFT, description="The model that is tuned.")
    exports: list[uuid.UUID] | None = Field(None, min_length=1, max_length=1000)
    epochs: int | None = Field(None, ge=1, le=1000)
    learning_rate: float | None = Field(None, gt=0, le=1)
    batch_seconds: float | None = Field(None, gt=0, le=3600, description="Seconds of sound in one step.")
    frozen: int | None = Field(None, ge=0, le=100, description="Blocks at the front that are not tuned.")


class FineTuneView(TrainingJobView):
    role: Role
    exports: list[uuid.UUID]
    hours: float
    automatic: bool
    options: dict[str, Any]
    report: dict[str, Any] | None

    @classmethod
    def of(cls, finetune: FineTune, job: Job) -> FineTuneView:
        return cls(
            **TrainingJobView.job_fields(job),
            role=finetune.role,
            exports=finetune.exports,
            hours=round(finetune.seconds / 3600, 4),
            automatic=finetune.automatic,
            options=finetune.options,
            report=finetune.report,
        )


class FineTunePage(BaseModel):
    data: list[FineTuneView]


@router.post("", status_code=202, response_model=FineTuneView)
def start_finetune(
    body: FineTuneRequest,
    response: Response,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
) -> FineTuneView:
    """Train the tenant's draft or refine model now, without waiting for enough new data."""
    require_opt_in(services, caller.tenant)
    options = body.model_dump(exclude={"role", "exports"}, exclude_none=True)
    with services.for_tenant(caller.tenant).begin() as session:
        max_seconds = services.settings.finetune_max_hours * 3600
        transaction = _start(session, caller, body, options, max_seconds)
        view = FineTuneView.of(*_find(session, caller.tenant, str(transaction.job.id)))
    background.add_task(announce, services, transaction)
    response.headers["Location"] = f"/v1/finetunes/{view.id}"
    return view


def _start(
    session: Session, caller: Caller, body: FineTuneRequest, options: Mapping[str, Any], max_seconds: float
) -> JobTransaction:
    """Raises Problem."""
    tenant = caller.tenant
    if finetunes.has_active(session, tenant):
        detail = "A fine-tuning is at work already; wait for it, or see `GET /v1/finetunes`."
        raise Problem(409, "finetune_running", "Fine-tuning under way", detail)
    material = finetunes.material(session, tenant, body.role, max_seconds)
    if body.exports is not None:
        for export_id in body.exports:
            export, job = find_export(session, tenant, str(export_id))
            if job.status != JobStatus.COMPLETED or export.dry_run:
                raise Problem(409, "export_not_ready", "Export not ready", f"Export {export_id} is not complete.")
    elif not material.new:
        detail = "There is no complete export that no fine-tuning has used; export first, or name exports."
        raise Problem(409, "no_new_exports", "No new exports", detail)
    selected = body.exports or material.exports
    return finetunes.start_finetune(
        session,
        tenant,
        body.role,
        selected,
        material.new_seconds if set(material.new) & set(selected) else 0.0,
        options,
        automatic=False,
        key_id=caller.key_id,
    )


@router.post("/{finetune_id}/cancel", response_model=FineTuneView)
def cancel_finetune(
    finetune_id: str, services: ServicesDep, tenant: Tenant, background: BackgroundTasks
) -> FineTuneView:
    """Stop a fine-tuning. Its exports are new again."""
    sessions = services.for_tenant(tenant)
    with sessions() as session:
        finetune, _ = _find(session, tenant, finetune_id)
    with job_transaction(sessions, finetune.job_id) as transaction:
        cancel(transaction)
        transaction.session.flush()
        transaction.session.refresh(transaction.job)
    background.add_task(announce, services, transaction)
    return FineTuneView.of(finetune, transaction.job)


@router.get("", response_model=FineTunePage)
def list_finetunes(session: SessionDep, tenant: Tenant, limit: Limit = 20) -> FineTunePage:
    """Fine-tunings, newest first."""
    return FineTunePage(data=[FineTuneView.of(*row) for row in jobs.newest(FineTune, session, tenant, limit)])


@router.get("/{finetune_id}", response_model=FineTuneView)
def show_finetune(finetune_id: str, session: SessionDep, tenant: Tenant) -> FineTuneView:
    return FineTuneView.of(*_find(session, tenant, finetune_id))


def _find(session: Session, tenant: str, finetune_id: str) -> tuple[FineTune, Job]:
    row = find_by_id(partial(jobs.find, FineTune), session, tenant, finetune_id)
    if row is None:
        detail = f"There is no fine-tuning {finetune_id!r}."
        raise Problem(404, "finetune_not_found", "Fine-tuning not found", detail)
    return row
