"""``/v1/collections``: recordings that belong together, and their transcripts in one file; ``/v1/tags``."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api.dependencies import ServicesDep, SessionDep, Tenant, find_by_id, needs
from api.named import insert, naming
from api.problems import Problem
from api.text import Name
from api.transcript_archives import ZIP, archive
from db import library
from db.models import Collection, Scope
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
    insert(services, made, "collection", "collections", library.MOST_COLLECTIONS)
    response.headers["Location"] = f"/v1/collections/{made.id}"
    return _view(made, 0)


@router.get("/v1/collections/{collection_id}", response_model=CollectionView, dependencies=READS)
def show_collection(collection_id: str, session: SessionDep, tenant: Tenant) -> CollectionView:
    """One collection."""
    found = find_collection(session, tenant, collection_id)
    return _view(found, library.count(session, found.id))


@router.patch("/v1/collections/{collection_id}", response_model=CollectionView, dependencies=WRITES)
def rename_collection(
    collection_id: str, wanted: CollectionName, services: ServicesDep, tenant: Tenant
) -> CollectionView:
    """Give a collection another name."""
    with naming("collection", wanted.name), services.for_tenant(tenant).begin() as session:
        found = find_collection(session, tenant, collection_id)
        found.name = wanted.name
        session.flush()
        return _view(found, library.count(session, found.id))


@router.delete("/v1/collections/{collection_id}", status_code=204, dependencies=WRITES)
def remove_collection(collection_id: str, services: ServicesDep, tenant: Tenant) -> None:
    """Forget a collection. Its recordings stay."""
    with services.for_tenant(tenant).begin() as session:
        session.delete(find_collection(session, tenant, collection_id))


@router.patch("/v1/collections/{collection_id}/jobs", response_model=CollectionView, dependencies=WRITES)
def change_collection(
    collection_id: str, members: Members, services: ServicesDep, tenant: Tenant
) -> CollectionView:
    """Put recordings into a collection, or take them out. What is there already, or is not, stays as it is."""
    with services.for_tenant(tenant).begin() as session:
        found = find_collection(session, tenant, collection_id)
        library.take_from(session, found.id, members.remove)
        library.add_to(session, found.id, tenant, members.add)
        return _view(found, library.count(session, found.id))


@router.get(
    "/v1/collections/{collection_id}/transcripts", response_class=Response, responses=ZIP, dependencies=READS
)
def export_collection(
    collection_id: str,
    services: ServicesDep,
    session: SessionDep,
    tenant: Tenant,
    format: Annotated[Format, Query()] = Format.TXT,
) -> StreamingResponse:
    """The transcripts of its recordings in one zip, named like them. It is sent while it is made."""
    found = find_collection(session, tenant, collection_id)
    recordings = library.in_collection(session, found.id, limit=library.MOST_EXPORTED + 1)
    return archive(services, tenant, recordings, found.name, format)


def _view(collection: Collection, recordings: int) -> CollectionView:
    return CollectionView(
        id=collection.id, name=collection.name, created_at=collection.created_at, recordings=recordings
    )


def find_collection(session: Session, tenant: str, collection_id: str) -> Collection:
    """Raises Problem (404)."""
    found = find_by_id(library.collection, session, tenant, collection_id)
    if found is None:
        detail = f"There is no collection {collection_id!r}."
        raise Problem(404, "collection_not_found", "Collection not found", detail)
    return found
