"""``/v1/searches``: searches that are asked again and again, by name."""

from __future__ import annotations

import uuid
from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from api.dependencies import ServicesDep, SessionDep, Tenant, find_by_id, needs
from api.named import insert
from api.problems import Problem
from api.routes.search import Wanted, check_query
from api.text import Name
from db import library
from db.models import SavedSearch, Scope

router = APIRouter(prefix="/v1/searches", tags=["search"])


class SearchToSave(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    query: Wanted


class SavedSearchView(BaseModel):
    id: uuid.UUID
    name: str
    query: Wanted
    created_at: datetime

    @classmethod
    def of(cls, saved: SavedSearch) -> SavedSearchView:
        query = Wanted.model_validate(saved.query)
        return cls(id=saved.id, name=saved.name, query=query, created_at=saved.created_at)


class SavedSearchesView(BaseModel):
    data: list[SavedSearchView]


@router.get("", response_model=SavedSearchesView, dependencies=[needs(Scope.JOBS_READ)])
def list_searches(session: SessionDep, tenant: Tenant) -> SavedSearchesView:
    """All saved searches, by name. `query` has the parameters of `GET /v1/search`."""
    return SavedSearchesView(data=[SavedSearchView.of(each) for each in library.saved_searches(session, tenant)])


@router.post("", status_code=201, response_model=SavedSearchView, dependencies=[needs(Scope.JOBS_WRITE)])
def save_search(
    wanted: SearchToSave, services: ServicesDep, tenant: Tenant, response: Response
) -> SavedSearchView:
    """Keep a search under a name."""
    check_query(wanted.query.q)
    query = wanted.query.model_dump(mode="json", by_alias=True, exclude_none=True)
    saved = SavedSearch(id=uuid.uuid4(), tenant=tenant, name=wanted.name, query=query)
    insert(services, saved, "search", "searches", library.MOST_SEARCHES)
    response.headers["Location"] = f"/v1/searches/{saved.id}"
    return SavedSearchView.of(saved)


@router.delete("/{search_id}", status_code=204, dependencies=[needs(Scope.JOBS_WRITE)])
def forget_search(search_id: str, services: ServicesDep, tenant: Tenant) -> None:
    """Forget a saved search."""
    with services.for_tenant(tenant).begin() as session:
        session.delete(find_search(session, tenant, search_id))


def find_search(session: Session, tenant: str, search_id: str) -> SavedSearch:
    """Raises Problem (404)."""
    found = find_by_id(library.saved_search, session, tenant, search_id)
    if found is None:
        detail = f"There is no saved search {search_id!r}."
        raise Problem(404, "search_not_found", "Search not found", detail)
    return found
