"""Results of a job beside its transcript: events and audio."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, CurrentJob, Services, ServicesDep, needs
from api.events import EventResponse, as_long_as
from api.problems import Problem, audio_erased
from api.waveforms import Waveform
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
    until: Annotated[
        Literal["ended", "deleted"],
        Query(description="`deleted`: stay open when the job has ended, and send what people change."),
    ] = "ended",
) -> Response:
    """Server-sent events of the job, from the first or after the given id, live until the job or the key ends.

    204 when the job has ended and there is nothing after the id, which tells an EventSource not to reconnect.
    """
    seen = _event_id(job, last_event_id if last_event_id is not None else after)
    until_deleted = until == "deleted"
    if job.status.finished and seen == job.event_seq and not until_deleted:
        return Response(status_code=204)
    if job.events_erased_at is not None:
        _require_events(services, job, seen)
    events = services.hub.stream(job.id, seen, until_deleted=until_deleted)
    slot = services.streams.slot(job.tenant, services.directory.limits(job.tenant).event_streams)
    stream = as_long_as(lambda: services.authenticator.holds(caller), events)
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
def download_audio(
    job: CurrentJob,
    services: ServicesDep,
    playable: Annotated[
        bool,
        Query(description="As browsers play and seek it; as it was uploaded where they do, or until it is cut."),
    ] = False,
) -> RedirectResponse:
    """Redirects to a short-lived URL of the recording, as it was uploaded unless something else is said."""
    if job.audio_erased_at is not None:
        raise audio_erased(job)
    if not job.sha256:
        detail = f"The recording of job {job.id} is yet to be fetched; follow its events."
        raise Problem(409, "audio_not_fetched", "Audio not fetched", detail)
    return RedirectResponse(recording_url(job, services, playable=playable), status_code=307)


def recording_url(job: Job, services: Services, *, playable: bool) -> str:
    """A short-lived address of the recording of a job that has it."""
    key, name = job.source_key, job.filename
    if playable and job.rendition_key is not None:
        key, name = job.rendition_key, f"{PurePath(job.filename).stem}.ogg"
    return services.storage.presign(key, name, services.settings.audio_url_ttl)


class PeaksView(BaseModel):
    """A waveform: how loud each of equally long spans is at its loudest, from 0 to 255."""

    start: float
    end: float = Field(description="Of the last span, in seconds.")
    peaks: list[int]


@router.get(
    "/peaks", response_model=PeaksView, responses={304: {"description": "Nothing has changed since this `ETag`."}}
)
def show_peaks(
    job: CurrentJob,
    services: ServicesDep,
    response: Response,
    points: Annotated[int, Query(ge=1, le=100_000, description="How many at most.")] = 2000,
    start: Annotated[float, Query(ge=0, le=1e7, description="Seconds.")] = 0.0,
    end: Annotated[
        float, Query(gt=0, le=1e7, description="Seconds; what is beyond the recording is left out.")
    ] = 1e7,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:
    """The waveform of the recording, or of a part of it: 25 peaks a second, or fewer and longer ones."""
    if job.audio_erased_at is not None:
        raise audio_erased(job)
    if job.peaks_key is None:
        detail = f"The recording of job {job.id} is yet to be cut, or was before waveforms were kept."
        raise Problem(409, "peaks_not_ready", "Peaks not ready", detail)
    tag = f'"{sha256(f"{job.peaks_key} {points} {start} {end}".encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and tag in re.findall(r'"[^"]*"', if_none_match):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    waveform = Waveform(services.storage.get(job.peaks_key), job.duration or 0.0)
    first, last, peaks = waveform.reduced(points, start, end)
    return PeaksView(start=first, end=last, peaks=peaks)
