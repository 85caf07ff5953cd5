"""``/v1/collections``: recordings that belong together, and their transcripts in one file; ``/v1/tags``."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import count
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.archives import Entry, zipped
from api.dependencies import Services, ServicesDep, SessionDep, Tenant, find_by_id, needs
from api.downloads import attachment, file_stem
from api.problems import Problem, too_many
from api.routes.transcripts import TranscriptQuery, transcript_file
from api.text import Name
from db import jobs, library
from db.models import Collection, Job, Scope
from speech.text.formats import Format

router = APIRouter(tags=["collections"])

READS, WRITES = [needs(Scope.JOBS_READ)], [needs(Scope.JOBS_WRITE)]
MOST_AT_ONCE = 1000


class TagView(BaseModel):
    tag: str
    recordings: int


class TagsView(BaseModel):
    data: list[TagView]


class CollectionName(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class CollectionView(BaseModel):
    id: uuid.UUID
    name: str
    created_at: datetime
    recordings: int


class CollectionsView(BaseModel):
    data: list[CollectionView]


class Members(BaseModel):
    """Which recordings to put into a collection, and which to take out of it."""

    model_config = ConfigDict(extra="forbid")

    add: list[uuid.UUID] = Field([], max_length=MOST_AT_ONCE, description="Ids of jobs.")
    remove: list[uuid.UUID] = Field([], max_length=MOST_AT_ONCE, description="Ids of jobs.")


@router.get("/v1/tags", response_model=TagsView, dependencies=READS)
def list_tags(session: SessionDep, tenant: Tenant) -> TagsView:
    """The tags of all recordings, the most used first."""
    return TagsView(data=[TagView(tag=tag, recordings=count) for tag, count in library.tags(session, tenant)])


@router.get("/v1/collections", response_model=CollectionsView, dependencies=READS)
def list_collections(session: SessionDep, tenant: Tenant) -> CollectionsView:
    """All collections, by name. `GET /v1/jobs?collection=` has the recordings of one."""
    return CollectionsView(data=[_view(*row) for row in library.collections(session, tenant)])


@router.post("/v1/collections", status_code=201, response_model=CollectionView, dependencies=WRITES)
def create_collection(
    wanted: CollectionName, services: ServicesDep, tenant: Tenant, response: Response
) -> CollectionView:
    """Make a collection, which is empty."""
    made = Collection(id=uuid.uuid4(), tenant=tenant, name=wanted.name)
    try:
        with services.for_tenant(tenant).begin() as session:
            if (held := library.held(session, tenant, Collection)) >= library.MOST_COLLECTIONS:
                raise too_many("collections", held)
            session.add(made)
            session.flush()
            session.refresh(made)
    except IntegrityError as error:
        raise _name_taken(wanted.name) from error
    response.headers["Location"] = f"/v1/collections/{made.id}"
    return _view(made, 0)


@router.get("/v1/collections/{collection_id}", response_model=CollectionView, dependencies=READS)
def show_collection(collection_id: str, session: SessionDep, tenant: Tenant) -> CollectionView:
    """One collection."""
    found = _find(session, tenant, collection_id)
    return _view(found, library.count(session, found.id))


@router.patch("/v1/collections/{collection_id}", response_model=CollectionView, dependencies=WRITES)
def rename_collection(
    collection_id: str, wanted: CollectionName, services: ServicesDep, tenant: Tenant
) -> CollectionView:
    """Give a collection another name."""
    try:
        with services.for_tenant(tenant).begin() as session:
            found = _find(session, tenant, collection_id)
            found.name = wanted.name
            session.flush()
            return _view(found, library.count(session, found.id))
    except IntegrityError as error:
        raise _name_taken(wanted.name) from error


@router.delete("/v1/collections/{collection_id}", status_code=204, dependencies=WRITES)
def remove_collection(collection_id: str, services: ServicesDep, tenant: Tenant) -> None:
    """Forget a collection. Its recordings stay."""
    with services.for_tenant(tenant).begin() as session:
        session.delete(_find(session, tenant, collection_id))


@router.patch("/v1/collections/{collection_id}/jobs", response_model=CollectionView, dependencies=WRITES)
def change_collection(
    collection_id: str, members: Members, services: ServicesDep, tenant: Tenant
) -> CollectionView:
    """Put recordings into a collection, or take them out. What is there already, or is not, stays as it is."""
    with services.for_tenant(tenant).begin() as session:
        found = _find(session, tenant, collection_id)
        library.take_from(session, found.id, members.remove)
        library.add_to(session, found.id, tenant, members.add)
        return _view(found, library.count(session, found.id))


@router.get(
    "/v1/collections/{collection_id}/transcripts",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
    dependencies=READS,
)
def export_collection(
    collection_id: str,
    services: ServicesDep,
    session: SessionDep,
    tenant: Tenant,
    format: Annotated[Format, Query()] = Format.TXT,
) -> StreamingResponse:
    """The transcripts of its recordings in one zip, named like them. It is sent while it is made."""
    found = _find(session, tenant, collection_id)
    if (held := library.count(session, found.id)) > library.MOST_EXPORTED:
        detail = f"One file has {library.MOST_EXPORTED} transcripts at most, and this had {held}: divide it."
        raise Problem(409, "too_many_recordings", "Too many recordings", detail)
    read = partial(_transcript, services, tenant, TranscriptQuery(format=format))
    entries = list(_entries(library.in_collection(session, found.id), format, read))
    return StreamingResponse(zipped(entries), media_type="application/zip", headers=attachment(found.name, "zip"))


def _entries(
    recordings: Iterable[Job], format: Format, read: Callable[[uuid.UUID], bytes | None]
) -> Iterator[Entry]:
    """A file of each recording; those of one name are numbered."""
    taken: set[str] = set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for job in recordings:
        name = stem = file_stem(job.shown_name)
        while name.casefold() in taken:
            name = f"{stem} ({next(numbers[stem.casefold()])})"
        taken.add(name.casefold())
        yield Entry(f"{name}.{format.ending}", job.created_at, partial(read, job.id))


def _transcript(services: Services, tenant: str, query: TranscriptQuery, job_id: uuid.UUID) -> bytes | None:
    """As it is when its turn comes; None once the job is deleted."""
    with services.for_tenant(tenant)() as session:
        job = jobs.get(session, tenant, job_id)
    return None if job is None else transcript_file(job, services, query)


def _view(collection: Collection, recordings: int) -> CollectionView:
    return CollectionView(
        id=collection.id, name=collection.name, created_at=collection.created_at, recordings=recordings
    )


def _find(session: Session, tenant: str, collection_id: str) -> Collection:
    """Raises Problem."""
    found = find_by_id(library.collection, session, tenant, collection_id)
    if found is None:
        detail = f"There is no collection {collection_id!r}."
        raise Problem(404, "collection_not_found", "Collection not found", detail)
    return found


def _name_taken(name: str) -> Problem:
    detail = f"There is a collection {name!r} already; choose another name."
    return Problem(409, "collection_exists", "Collection exists", detail)
