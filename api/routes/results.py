"""Results of a job beside its transcript: events and audio."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import RedirectResponse

from api.dependencies import CallerDep, CurrentJob, Services, ServicesDep, needs
from api.events import EventResponse, as_long_as
from api.problems import Problem, audio_erased
from db.events import event_log
from db.models import Job, Scope

router = APIRouter(prefix="/v1/jobs/{job_id}", dependencies=[needs(Scope.JOBS_READ)], tags=["results"])


@router.get(
    "/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job has ended, and there is nothing after the id."},
    },
)
def stream_events(
    job: CurrentJob,
    services: ServicesDep,
    caller: CallerDep,
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
    after: Annotated[str | None, Query(description="The same, for clients that cannot set headers.")] = None,
) -> Response:
    """Server-sent events of the job, from the first or after the given id, live until the job or the key ends.

    204 when the job has ended and there is nothing after the id, which tells an EventSource not to reconnect.
    """
    seen = _event_id(job, last_event_id if last_event_id is not None else after)
    if job.status.finished and seen == job.event_seq:
        return Response(status_code=204)
    if job.events_erased_at is not None:
        _require_events(services, job, seen)
    slot = services.streams.slot(job.tenant, services.limits(job.tenant).event_streams)
    stream = as_long_as(lambda: services.authenticator.holds(caller), services.hub.stream(job.id, seen))
    return EventResponse(stream, services.settings.stall_seconds, slot)


def _require_events(services: Services, job: Job, seen: int) -> None:
    """Raises Problem where events after ``seen`` are no longer there."""
    with services.for_tenant(job.tenant)() as session:
        kept = event_log.count_after(session, job.id, seen)
    if kept < job.event_seq - seen:
        detail = (
            f"Events of job {job.id} up to {job.events_erased_at} were removed; its transcript has what they told."
        )
        raise Problem(410, "events_erased", "Events erased", detail, last_event_id=job.event_seq)


def _event_id(job: Job, given: str | None) -> int:
    if not given:
        return 0
    if given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= job.event_seq:
        return int(given)
    detail = f"The last event id must be a number from 0 to {job.event_seq}, the newest event of this job."
    raise Problem(400, "invalid_last_event_id", "Invalid Last-Event-ID", detail)


@router.get("/audio", status_code=307, response_class=RedirectResponse)
def download_audio(job: CurrentJob, services: ServicesDep) -> RedirectResponse:
    """Redirects to a short-lived URL of the recording as it was uploaded."""
    if job.audio_erased_at is not None:
        raise audio_erased(job)
    if not job.sha256:
        detail = f"The recording of job {job.id} is yet to be fetched; follow its events."
        raise Problem(409, "audio_not_fetched", "Audio not fetched", detail)
    url = services.storage.presign(job.source_key, job.filename, services.settings.audio_url_ttl)
    return RedirectResponse(url, status_code=307)
