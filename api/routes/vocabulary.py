"""``/v1/vocabulary``: names and terms of a tenant, and proposals learnt from corrections."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.dependencies import ServicesDep, SessionDep, Tenant, find_by_id, needs
from api.problems import Problem
from api.schemas import KnownLanguage
from api.text import Name
from db import vocabulary
from db.access import quotas
from db.models import Scope, VocabularyTerm
from speech.text.vocabulary import MOST_WORDS, learn, units_of

router = APIRouter(prefix="/v1/vocabulary", tags=["vocabulary"])
READ, WRITE = needs(Scope.JOBS_READ), needs(Scope.JOBS_WRITE)


def _check_words(text: str) -> str:
    if not 0 < len(units_of(text)) <= MOST_WORDS:
        raise ValueError(f"a term has 1 to {MOST_WORDS} words, or characters of Chinese")
    return text


Spelling = Annotated[Name, AfterValidator(_check_words), StringConstraints(max_length=100)]


class TermRequest(BaseModel):
    """A name or term, as it is to be written."""

    model_config = ConfigDict(extra="forbid")

    term: Spelling
    sounds_like: list[Spelling] = Field([], max_length=20, description="How it is misheard, or spoken.")
    language: KnownLanguage | None = Field(None, description="Where it is a term; in all if left out.")
    accepted: bool = Field(True, description="`false`: it is no term, and not to be proposed again.")


class TermChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    sounds_like: list[Spelling] | None = Field(None, max_length=20)
    language: KnownLanguage | None = None
    accepted: bool | None = None


class TermView(BaseModel):
    id: uuid.UUID
    term: str
    sounds_like: list[str]
    language: str | None
    accepted: bool
    created_at: datetime

    @classmethod
    def of(cls, row: VocabularyTerm) -> TermView:
        return cls.model_validate(row, from_attributes=True)


class TermList(BaseModel):
    data: list[TermView]


class ProposalView(BaseModel):
    """What people have put in place of what was heard; `POST /v1/vocabulary` accepts it, or rejects it."""

    term: str
    sounds_like: list[str] = Field(description="What the models wrote instead.")
    corrections: int = Field(description="In how many segments people corrected it: two or more.")


class ProposalList(BaseModel):
    data: list[ProposalView]


@router.get("", response_model=TermList, dependencies=[READ])
def list_terms(session: SessionDep, tenant: Tenant) -> TermList:
    """All terms by their spelling, rejected ones among them."""
    return TermList(data=[TermView.of(row) for row in vocabulary.terms(session, tenant)])


@router.get("/proposals", response_model=ProposalList, dependencies=[READ])
def list_proposals(services: ServicesDep, tenant: Tenant) -> ProposalList:
    """What people have corrected to the same words in two segments or more, and is no term yet."""
    with services.for_tenant(tenant)() as session:
        known = [row.term for row in vocabulary.terms(session, tenant)]
        corrections = vocabulary.corrections(session, tenant)
    # without a connection: that takes a while
    proposals = learn(corrections, known)
    return ProposalList(
        data=[
            ProposalView(term=each.term, sounds_like=list(each.heard), corrections=each.corrections)
            for each in proposals[:100]
        ]
    )


@router.post("", status_code=201, response_model=TermView, dependencies=[WRITE])
def create_term(request: TermRequest, response: Response, services: ServicesDep, tenant: Tenant) -> TermView:
    """Add a term, or reject one. Recordings that are transcribed from now on have it."""
    with services.for_tenant(tenant).begin() as session:
        # one at a time, so that their number is known
        quotas.lock(session, tenant)
        _check_new(session, tenant, request.term)
        row = VocabularyTerm(tenant=tenant, **request.model_dump())
        session.add(row)
        session.flush()
        session.refresh(row)
        response.headers["Location"] = f"/v1/vocabulary/{row.id}"
        return TermView.of(row)


def _check_new(session: Session, tenant: str, term: str) -> None:
    known = session.scalar(
        select(VocabularyTerm.id).where(VocabularyTerm.tenant == tenant, VocabularyTerm.term == term)
    )
    if known is not None:
        detail = f"{term!r} is in the vocabulary, or was rejected: change {known}."
        raise Problem(409, "term_exists", "Term exists", detail, id=str(known))
    if len(vocabulary.terms(session, tenant)) >= vocabulary.MOST_TERMS:
        detail = f"The vocabulary has {vocabulary.MOST_TERMS} terms; remove some first."
        raise Problem(409, "too_many_terms", "Too many terms", detail)


@router.patch("/{term_id}", response_model=TermView, dependencies=[WRITE])
def change_term(term_id: str, change: TermChange, services: ServicesDep, tenant: Tenant) -> TermView:
    """Change how a term is misheard, its language, or whether it is one."""
    with services.for_tenant(tenant).begin() as session:
        row = _find(session, tenant, term_id)
        for name, value in change.model_dump(exclude_unset=True).items():
            if value is not None or name == "language":
                setattr(row, name, value)
        session.flush()
        return TermView.of(row)


@router.delete("/{term_id}", status_code=204, dependencies=[WRITE])
def delete_term(term_id: str, services: ServicesDep, tenant: Tenant) -> None:
    """Remove a term. Transcripts stay as they are."""
    with services.for_tenant(tenant).begin() as session:
        session.delete(_find(session, tenant, term_id))


def _find(session: Session, tenant: str, term_id: str) -> VocabularyTerm:
    """Raises Problem."""
    row = find_by_id(vocabulary.get, session, tenant, term_id)
    if row is None:
        detail = f"There is no term {term_id!r}; `GET /v1/vocabulary` lists them."
        raise Problem(404, "term_not_found", "Term not found", detail)
    return row
