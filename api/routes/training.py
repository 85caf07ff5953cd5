"""``/v1/exports`` and ``/v1/finetunes``: training data out of transcripts, and models out of training data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from datetime import date as Day  # fields are called date
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, BackgroundTasks, Query, Response
from fastapi.responses import RedirectResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy.orm import Session

from api.dependencies import Connected, Connections, DbSession, Tenant, announce, look_up
from api.problems import Problem
from api.routes.jobs import cancel, delete
from api.schemas import JobError
from db.models import Export, FineTune, Job, JobStatus
from db.queue.transaction import JobGone, JobTransaction, job_transaction
from db.training import exports, finetunes, jobs
from speech.training.dataset.filters import Filters
from speech.training.dataset.text import Cleaning

router = APIRouter(tags=["training"])

Limit = Annotated[int, Query(ge=1, le=100)]


class ExportRequest(BaseModel):
    """What to export; yesterday where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    date: Day | None = Field(None, le=Day(9998, 12, 31), description="A day, in UTC.")
    since: AwareDatetime | None = Field(None, description="With `until`, instead of a day.")
    until: AwareDatetime | None = None
    dry_run: bool = Field(False, description="Tell what would be exported, and write nothing.")
    filters: dict[str, Any] = Field({}, validate_default=True, description="Limits other than the default ones.")
    cleaning: dict[str, Any] = Field(
        {}, validate_default=True, description="Steps of cleaning to switch on: `simplify`, `mask`."
    )

    @model_validator(mode="after")
    def _span(self) -> Self:
        if (self.since is None) != (self.until is None) or (self.date and self.since):
            raise ValueError("give either `date`, or `since` and `until`")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("`since` is not before `until`")
        return self

    @field_validator("filters")
    @classmethod
    def _filters(cls, given: dict[str, Any]) -> dict[str, Any]:
        return Filters.from_json(given).to_json()

    @field_validator("cleaning")
    @classmethod
    def _cleaning(cls, given: dict[str, Any]) -> dict[str, Any]:
        return Cleaning.from_json(given).to_json()

    def window(self) -> tuple[datetime, datetime]:
        if self.since and self.until:
            return self.since, self.until
        return exports.day(self.date or datetime.now(UTC).date() - timedelta(days=1))


class Stage(BaseModel):
    """How a piece of the night's work stands."""

    id: uuid.UUID
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error: JobError | None

    @staticmethod
    def of_job(job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "status": job.status,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
            "error": JobError.of(job),
        }


class ExportView(Stage):
    date: Day
    since: datetime
    until: datetime
    dry_run: bool
    prefix: str | None = Field(description="Where it lies in the bucket, once it is complete.")
    manifest: dict[str, Any] | None = Field(description="Counts, hours, rejections by reason, files and hashes.")

    @classmethod
    def of(cls, export: Export, job: Job) -> ExportView:
        written = export.summary is not None and not export.dry_run
        return cls(
            **Stage.of_job(job),
            date=export.date,
            since=export.since,
            until=export.until,
            dry_run=export.dry_run,
            prefix=exports.prefix(export) if written else None,
            manifest=export.summary,
        )


class ExportPage(BaseModel):
    data: list[ExportView]


class FineTuneRequest(BaseModel):
    """On which exports to train; those that are new where none are named."""

    model_config = ConfigDict(extra="forbid")

    exports: list[uuid.UUID] | None = Field(None, min_length=1, max_length=1000)
    epochs: int | None = Field(None, ge=1, le=1000)
    learning_rate: float | None = Field(None, gt=0, le=1)
    batch_seconds: float | None = Field(None, gt=0, le=3600, description="Seconds of sound in one step.")
    frozen: int | None = Field(None, ge=0, le=100, description="Blocks at the front that are not tuned.")


class FineTuneView(Stage):
    exports: list[uuid.UUID]
    hours: float
    automatic: bool
    options: dict[str, Any]
    report: dict[str, Any] | None

    @classmethod
    def of(cls, finetune: FineTune, job: Job) -> FineTuneView:
        return cls(
            **Stage.of_job(job),
            exports=finetune.exports,
            hours=round(finetune.seconds / 3600, 4),
            automatic=finetune.automatic,
            options=finetune.options,
            report=finetune.report,
        )


class FineTunePage(BaseModel):
    data: list[FineTuneView]


@router.post("/v1/exports", status_code=202, response_model=ExportView)
def start_export(
    wanted: ExportRequest, response: Response, background: BackgroundTasks, held: Connected, tenant: Tenant
) -> ExportView:
    """Export a day's transcripts as training data. The answer comes at once; the work goes on in the queue."""
    _opted_in(held, tenant)
    since, until = wanted.window()
    with held.sessions.begin() as session:
        transaction = exports.start_export(
            session,
            tenant,
            since,
            until,
            filters=wanted.filters,
            cleaning=wanted.cleaning,
            dry_run=wanted.dry_run,
        )
        view = ExportView.of(*_export(session, tenant, str(transaction.job.id)))
    background.add_task(announce, held, transaction)
    response.headers["Location"] = f"/v1/exports/{view.id}"
    return view


def _opted_in(held: Connections, tenant: str) -> None:
    """Raises Problem."""
    if not exports.allowed(held.settings, tenant):
        detail = f"The tenant {tenant!r} has not opted in to training: add it to LONGHAND_TRAINING_TENANTS."
        raise Problem(403, "training_not_allowed", "Training not allowed", detail)


@router.get("/v1/exports", response_model=ExportPage)
def list_exports(opened: DbSession, tenant: Tenant, limit: Limit = 20) -> ExportPage:
    """Exports, newest first."""
    return ExportPage(data=[ExportView.of(*found) for found in jobs.newest(Export, opened, tenant, limit)])


@router.get("/v1/exports/{export_id}", response_model=ExportView)
def show_export(export_id: str, opened: DbSession, tenant: Tenant) -> ExportView:
    return ExportView.of(*_export(opened, tenant, export_id))


@router.get("/v1/exports/{export_id}/files/{path:path}", status_code=307, response_class=RedirectResponse)
def export_file(export_id: str, path: str, held: Connected, opened: DbSession, tenant: Tenant) -> RedirectResponse:
    """A file of a complete export, by a short-lived URL. `SHA256SUMS` names the clips, the manifest the lists."""
    export, job = _export(opened, tenant, export_id)
    if job.status != JobStatus.COMPLETED or export.dry_run:
        detail = f"Export {export_id} has no files: it is {'a dry run' if export.dry_run else job.status}."
        raise Problem(409, "export_not_ready", "Export not ready", detail)
    if not set(path.split("/")).isdisjoint(("", ".", "..")):
        # a store on a file system might follow them
        raise Problem(404, "file_not_found", "File not found", f"Export {export_id} has no file {path!r}.")
    key = exports.prefix(export) + path
    return RedirectResponse(held.storage.presign(key, path.rpartition("/")[2], held.settings.audio_url_ttl))


@router.delete("/v1/exports/{export_id}", status_code=204)
def delete_export(export_id: str, held: Connected, tenant: Tenant, background: BackgroundTasks) -> None:
    """Remove an export with its files."""
    with held.sessions() as session:
        _, job = _export(session, tenant, export_id)
    try:
        with job_transaction(held.sessions, job.id) as transaction:
            delete(transaction)
    except JobGone as error:
        raise _export_not_found(export_id) from error
    background.add_task(announce, held, transaction)


def _export(opened: Session, tenant: str, export_id: str) -> tuple[Export, Job]:
    found = look_up(partial(jobs.find, Export), opened, tenant, export_id)
    if found is None:
        raise _export_not_found(export_id)
    return found


def _export_not_found(export_id: str) -> Problem:
    detail = f"There is no export {export_id!r}; it may have been deleted."
    return Problem(404, "export_not_found", "Export not found", detail)


@router.post("/v1/finetunes", status_code=202, response_model=FineTuneView)
def start_finetune(
    wanted: FineTuneRequest, response: Response, background: BackgroundTasks, held: Connected, tenant: Tenant
) -> FineTuneView:
    """Train the tenant's draft model now, without waiting for enough new data."""
    _opted_in(held, tenant)
    options = wanted.model_dump(exclude={"exports"}, exclude_none=True)
    with held.sessions.begin() as session:
        transaction = _start(session, tenant, wanted.exports, options)
        view = FineTuneView.of(*_finetune(session, tenant, str(transaction.job.id)))
    background.add_task(announce, held, transaction)
    response.headers["Location"] = f"/v1/finetunes/{view.id}"
    return view


def _start(
    session: Session, tenant: str, wanted: list[uuid.UUID] | None, options: Mapping[str, Any]
) -> JobTransaction:
    """Raises Problem."""
    if finetunes.tuning(session, tenant):
        detail = "A fine-tuning is at work already; wait for it, or see `GET /v1/finetunes`."
        raise Problem(409, "finetune_running", "Fine-tuning under way", detail)
    new, seconds = finetunes.new_exports(session, tenant)
    if wanted is not None:
        for export_id in wanted:
            export, job = _export(session, tenant, str(export_id))
            if job.status != JobStatus.COMPLETED or export.dry_run:
                raise Problem(409, "export_not_ready", "Export not ready", f"Export {export_id} is not complete.")
    elif not new:
        detail = "There is no complete export that no fine-tuning has used; export first, or name exports."
        raise Problem(409, "no_new_exports", "No new exports", detail)
    chosen = wanted or new
    return finetunes.start_finetune(
        session, tenant, chosen, seconds if set(new) & set(chosen) else 0.0, options, automatic=False
    )


@router.post("/v1/finetunes/{finetune_id}/cancel", response_model=FineTuneView)
def cancel_finetune(
    finetune_id: str, held: Connected, tenant: Tenant, background: BackgroundTasks
) -> FineTuneView:
    """Stop a fine-tuning. Its exports are new again."""
    with held.sessions() as session:
        finetune, _ = _finetune(session, tenant, finetune_id)
    with job_transaction(held.sessions, finetune.job_id) as transaction:
        cancel(transaction)
        transaction.session.flush()
        transaction.session.refresh(transaction.job)
    background.add_task(announce, held, transaction)
    return FineTuneView.of(finetune, transaction.job)


@router.get("/v1/finetunes", response_model=FineTunePage)
def list_finetunes(opened: DbSession, tenant: Tenant, limit: Limit = 20) -> FineTunePage:
    """Fine-tunings, newest first."""
    return FineTunePage(data=[FineTuneView.of(*found) for found in jobs.newest(FineTune, opened, tenant, limit)])


@router.get("/v1/finetunes/{finetune_id}", response_model=FineTuneView)
def show_finetune(finetune_id: str, opened: DbSession, tenant: Tenant) -> FineTuneView:
    return FineTuneView.of(*_finetune(opened, tenant, finetune_id))


def _finetune(opened: Session, tenant: str, finetune_id: str) -> tuple[FineTune, Job]:
    found = look_up(partial(jobs.find, FineTune), opened, tenant, finetune_id)
    if found is None:
        detail = f"There is no fine-tuning {finetune_id!r}."
        raise Problem(404, "finetune_not_found", "Fine-tuning not found", detail)
    return found
