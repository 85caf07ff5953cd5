"""``/v1/hooks``: what other servers say has happened."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, ServicesDep, announce, needs
from api.options import check_options
from api.uploads.by_event import Record, Wanted, make_job
from api.uploads.options import given_options, validate_options
from db.models import Scope

router = APIRouter(prefix="/v1/hooks", dependencies=[needs(Scope.JOBS_WRITE)], tags=["jobs"])


class Notification(BaseModel):
    """An event of S3: records, or none where a server tries the address out."""

    records: list[Record] = Field([], validation_alias="Records")


class Made(BaseModel):
    bucket: str
    key: str
    job_id: UUID


class PassedOver(BaseModel):
    bucket: str
    key: str
    reason: str


class Taken(BaseModel):
    """What became of each record."""

    jobs: list[Made]
    ignored: list[PassedOver]


@router.post("/s3", status_code=202, response_model=Taken)
def take_s3_event(
    body: Notification,
    request: Request,
    response: Response,
    background: BackgroundTasks,
    services: ServicesDep,
    caller: CallerDep,
    prefix: Annotated[str, Query(max_length=1024, description="Of the keys that are taken.")] = "",
    suffix: Annotated[str, Query(max_length=1024, description="Of the keys that are taken.")] = "",
) -> Taken:
    """Make a job of each recording that was created in a bucket: for the event notifications of S3 servers.

    Other parameters of the query are options of the jobs. An event that comes again makes no further jobs.
    """
    fields = {name: value for name, value in request.query_params.items() if name not in ("prefix", "suffix")}
    given = given_options(fields)
    # a mistake in the address is told to whoever tries it out
    check_options(services.endpoints, caller, validate_options(given))
    wanted = Wanted(prefix, suffix, given)
    reasons = [wanted.why_not(services, record) for record in body.records]
    taken = Taken(jobs=[], ignored=[])
    for record, reason in zip(body.records, reasons, strict=True):
        if reason is not None:
            taken.ignored.append(PassedOver(bucket=record.bucket, key=record.key, reason=reason))
            continue
        job, transaction = make_job(services, caller, record, wanted)
        if transaction is not None:
            background.add_task(announce, services, transaction)
        taken.jobs.append(Made(bucket=record.bucket, key=record.key, job_id=job.id))
    if len(taken.jobs) == 1:
        response.headers["Location"] = f"/v1/jobs/{taken.jobs[0].job_id}"
    return taken
