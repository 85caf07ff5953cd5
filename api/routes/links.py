"""Links that show the transcript of one job to whoever has them: ``/v1/jobs/{id}/links``, ``/v1/shared``."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CallerDep, ServicesDep, SessionDep, Tenant, find_job, for_every_caller, needs
from api.problems import Problem, too_many
from api.routes.results import recording_url
from db.access import links
from db.models import JobStatus, Link, Scope

router = APIRouter(tags=["links"])

WRITES = [needs(Scope.JOBS_WRITE)]
HANDS_ON = [*WRITES, needs(Scope.JOBS_READ)]
"""Nobody opens for others what is closed to themselves."""

A_DAY = 24 * 3600
MOST_SECONDS = 366 * A_DAY


class LinkRequest(BaseModel):
    """What a link opens, and for how long."""

    model_config = ConfigDict(extra="forbid")

    expires_in: int = Field(7 * A_DAY, ge=60, le=MOST_SECONDS, description="Seconds.")
    audio: bool = Field(True, description="Whether the recording can be played, too.")


class LinkView(BaseModel):
    id: uuid.UUID
    job_id: uuid.UUID
    audio: bool
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, link: Link) -> LinkView:
        return cls.model_validate(link, from_attributes=True)


class NewLink(LinkView):
    token: str = Field(description="A credential for `GET /v1/shared` and the transcript. Shown this once.")
    path: str = Field(description="Of the page that shows the transcript: behind this server's address.")


class LinksView(BaseModel):
    data: list[LinkView]


class SharedView(BaseModel):
    """What a link opens."""

    job_id: uuid.UUID
    title: str
    status: JobStatus
    created_at: datetime
    duration: float | None
    language: str | None
    expires_at: datetime
    audio_url: str | None = Field(description="A short-lived address of the recording, where the link opens it.")


@router.post("/v1/jobs/{job_id}/links", status_code=201, response_model=NewLink, dependencies=HANDS_ON)
def create_link(
    job_id: str, wanted: LinkRequest, services: ServicesDep, caller: CallerDep, response: Response
) -> NewLink:
    """Make a link to the transcript, for people without a key. It ends with your key, if not before."""
    expires_at = datetime.now(UTC) + timedelta(seconds=wanted.expires_in)
    with services.for_tenant(caller.tenant).begin() as session:
        job = find_job(session, caller.tenant, job_id)
        if caller.short_lived:
            detail = "Links are made with an API key: one that was made with a token would outlive it."
            raise Problem(403, "key_needed", "Key needed", detail)
        if (count := links.count(session, job)) >= links.MOST_OF_A_JOB:
            raise too_many("links", count)
        link, secret = links.create(
            session,
            job,
            audio=wanted.audio,
            created_by=caller.actor,
            key_id=caller.key_id,
            expires_at=expires_at,
        )
    response.headers["Location"] = f"/v1/jobs/{job.id}/links/{link.id}"
    return NewLink(**LinkView.of(link).model_dump(), token=secret, path=f"/shared#{secret}")


@router.get("/v1/jobs/{job_id}/links", response_model=LinksView, dependencies=WRITES)
def list_links(job_id: str, session: SessionDep, tenant: Tenant) -> LinksView:
    """The links to the transcript, newest first, without their secrets."""
    job = find_job(session, tenant, job_id)
    return LinksView(data=[LinkView.of(link) for link in links.of_job(session, job.id)])


@router.delete("/v1/jobs/{job_id}/links/{link_id}", status_code=204, dependencies=WRITES)
def revoke_link(job_id: str, link_id: uuid.UUID, services: ServicesDep, tenant: Tenant) -> None:
    """Revoke a link. It opens nothing from the next request on."""
    with services.for_tenant(tenant).begin() as session:
        job = find_job(session, tenant, job_id)
        if not links.revoke(session, job.id, link_id):
            detail = f"Job {job.id} has no link {link_id}."
            raise Problem(404, "link_not_found", "Link not found", detail)


@router.get("/v1/shared", response_model=SharedView, dependencies=[for_every_caller()])
def show_shared(services: ServicesDep, session: SessionDep, caller: CallerDep) -> SharedView:
    """What the link opens that the request came with. `GET /v1/jobs/{job_id}/transcript` has the transcript."""
    if caller.link is None:
        detail = "This shows what a link opens: send its token as `Authorization: Bearer TOKEN`."
        raise Problem(403, "link_needed", "Link needed", detail)
    job = find_job(session, caller.tenant, str(caller.link.job_id))
    plays = caller.link.audio and job.audio_erased_at is None and job.sha256
    return SharedView(
        job_id=job.id,
        title=job.shown_name,
        status=job.status,
        created_at=job.created_at,
        duration=job.duration,
        language=job.language,
        expires_at=caller.link.expires_at,
        audio_url=recording_url(job, services, playable=True) if plays else None,
    )
