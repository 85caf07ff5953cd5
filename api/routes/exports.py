"""``/v1/exports``: training data from transcripts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from datetime import date as Day  # fields are called date
from functools import partial
from typing import Any, Self

from fastapi import APIRouter, BackgroundTasks, Response
from fastapi.responses import RedirectResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy.orm import Session

from api.dependencies import CallerDep, ServicesDep, SessionDep, Tenant, announce, find_by_id, needs
from api.problems import Problem
from api.routes.jobs import delete
from api.training import Limit, TrainingJobView, require_opt_in
from db.models import Export, Job, JobStatus, Scope
from db.queue.transaction import JobGone, job_transaction
from db.training import exports, jobs
from speech.training.dataset.filters import Filters
from speech.training.dataset.text import Cleaning

router = APIRouter(prefix="/v1/exports", dependencies=[needs(Scope.TRAINING)], tags=["training"])


class ExportRequest(BaseModel):
    """What to export; by default, yesterday."""

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
    def _check_span(self) -> Self:
        if (self.since is None) != (self.until is None) or (self.date and self.since):
            raise ValueError("give either `date`, or `since` and `until`")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("`since` is not before `until`")
        return self

    @field_validator("filters")
    @classmethod
    def _parse_filters(cls, value: dict[str, Any]) -> dict[str, Any]:
        return Filters.from_json(value).to_json()

    @field_validator("cleaning")
    @classmethod
    def _parse_cleaning(cls, value: dict[str, Any]) -> dict[str, Any]:
        return Cleaning.from_json(value).to_json()

    def span(self) -> tuple[datetime, datetime]:
        if self.since and self.until:
            return self.since, self.until
        return exports.day_bounds(self.date or datetime.now(UTC).date() - timedelta(days=1))


class ExportView(TrainingJobView):
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
            **TrainingJobView.job_fields(job),
            date=export.date,
            since=export.since,
            until=export.until,
            dry_run=export.dry_run,
            prefix=exports.prefix(export) if written else None,
            manifest=export.summary,
        )


class ExportPage(BaseModel):
    data: list[ExportView]


@router.post("", status_code=202, response_model=ExportView)
def start_export(
    body: ExportRequest, response: Response, background: BackgroundTasks, services: ServicesDep, caller: CallerDep
) -> ExportView:
    """Export a day's transcripts as training data. The answer comes at once; the work goes on in the queue."""
    tenant = caller.tenant
    require_opt_in(services, tenant)
    since, until = body.span()
    with services.for_tenant(tenant).begin() as session:
        transaction = exports.start_export(
            session,
            tenant,
            since,
            until,
            filters=body.filters,
            cleaning=body.cleaning,
            dry_run=body.dry_run,
            key_id=caller.key_id,
        )
        view = ExportView.of(*find_export(session, tenant, str(transaction.job.id)))
    background.add_task(announce, services, transaction)
    response.headers["Location"] = f"/v1/exports/{view.id}"
    return view


@router.get("", response_model=ExportPage)
def list_exports(session: SessionDep, tenant: Tenant, limit: Limit = 20) -> ExportPage:
    """Exports, newest first."""
    return ExportPage(data=[ExportView.of(*row) for row in jobs.newest(Export, session, tenant, limit)])


@router.get("/{export_id}", response_model=ExportView)
def show_export(export_id: str, session: SessionDep, tenant: Tenant) -> ExportView:
    return ExportView.of(*find_export(session, tenant, export_id))


@router.get("/{export_id}/files/{path:path}", status_code=307, response_class=RedirectResponse)
def download_export_file(
    export_id: str, path: str, services: ServicesDep, session: SessionDep, tenant: Tenant
) -> RedirectResponse:
    """A file of a complete export, by a short-lived URL. `SHA256SUMS` names the clips, the manifest the lists."""
    export, job = find_export(session, tenant, export_id)
    if job.status != JobStatus.COMPLETED or export.dry_run:
        detail = f"Export {export_id} has no files: it is {'a dry run' if export.dry_run else job.status}."
        raise Problem(409, "export_not_ready", "Export not ready", detail)
    if not set(path.split("/")).isdisjoint(("", ".", "..")):
        # a store on a file system might resolve them
        raise Problem(404, "file_not_found", "File not found", f"Export {export_id} has no file {path!r}.")
    key = exports.prefix(export) + path
    return RedirectResponse(
        services.storage.presign(key, path.rpartition("/")[2], services.settings.audio_url_ttl)
    )


@router.delete("/{export_id}", status_code=204)
def delete_export(export_id: str, services: ServicesDep, caller: CallerDep, background: BackgroundTasks) -> None:
    """Remove an export with its files."""
    sessions = services.for_tenant(caller.tenant)
    with sessions() as session:
        _, job = find_export(session, caller.tenant, export_id)
    try:
        with job_transaction(sessions, job.id) as transaction:
            delete(transaction, caller.actor)
    except JobGone as error:
        raise _export_not_found(export_id) from error
    background.add_task(announce, services, transaction)


def find_export(session: Session, tenant: str, export_id: str) -> tuple[Export, Job]:
    row = find_by_id(partial(jobs.find, Export), session, tenant, export_id)
    if row is None:
        raise _export_not_found(export_id)
    return row


def _export_not_found(export_id: str) -> Problem:
    detail = f"There is no export {export_id!r}; it may have been deleted."
    return Problem(404, "export_not_found", "Export not found", detail)
