"""``/v1/search``: words in all transcripts of a tenant."""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from threading import BoundedSemaphore
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as Parameters
from pydantic import BaseModel, ConfigDict, Field

from api.cursors import invalid_cursor
from api.dependencies import ServicesDep, SessionDep, needs
from api.meaning import unavailable
from api.problems import Problem
from api.text import NO_CONTROLS
from db.models import Scope
from db.search import meanings
from db.search.filters import Filters
from db.search.find import find
from db.search.hits import SHOWN, Hit, Place
from db.search.query import Query, QueryError, parse

router = APIRouter(prefix="/v1/search", dependencies=[needs(Scope.JOBS_READ)], tags=["search"])

MAX_QUERY = 300
LATEST = date(9998, 12, 31)
RANK = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")

AT_ONCE = BoundedSemaphore(2)
"""Searches of this process: others need connections, too."""
WAIT_SECONDS = 1.0

Short = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_CONTROLS)]


class Wanted(BaseModel):
    """What is looked for, and where."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, Field(min_length=1, max_length=MAX_QUERY, pattern=NO_CONTROLS)] = Field(
        description='Words, all of which a segment has: `budget`, `"a phrase"`, `begin*`, `-without`.'
    )
    speaker: Short | None = Field(None, description="Who says it: a name, or a label of a recording.")
    since: date | None = Field(
        None, alias="from", description="First day, in UTC, on which the recording was handed in."
    )
    until: date | None = Field(None, alias="to", le=LATEST, description="Last day, included.")
    source: Short | None = Field(None, description="Label of the recording's source.")
    language: Short | None = Field(None, description="Code of the segment's language, such as `en`.")
    tag: Short | None = Field(None, description="Of the recording.")
    collection: uuid.UUID | None = Field(None, description="Id of a collection that the recording is in.")


class Mode(StrEnum):
    WORDS = "words"
    MEANING = "meaning"


class SearchQuery(Wanted):
    """A page of what is looked for."""

    mode: Mode = Field(
        Mode.WORDS,
        description="`meaning`: segments in English that mean much the same as `q`, a question or a sentence, in "
        "whatever words; where `semantic_search` of `GET /v1/server` says so.",
    )
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = None


class HitView(BaseModel):
    """A segment that was found, and where to play it from."""

    job_id: uuid.UUID
    title: str | None = Field(description="What people call the recording.")
    filename: str
    created_at: datetime = Field(description="When the recording was handed in.")
    index: int = Field(description="Of the segment.")
    chunk: int
    start: float
    end: float
    text: str
    speaker: str | None = Field(description="A label; null until speakers are told apart.")
    speaker_name: str | None
    language: str | None
    provisional: bool = Field(description="A draft that finals of its chunk are going to replace.")
    highlights: list[list[int]] = Field(
        description="[start, end) of what was found, in characters (Unicode code points) of the text."
    )
    play_from: float = Field(description="Seconds at which the first of it is said.")
    exact: bool = Field(description="False where only other spellings of the words that were typed are there.")

    @classmethod
    def of(cls, hit: Hit) -> HitView:
        names = *SHOWN, "title", "filename", "created_at", "speaker_name"
        return cls(
            highlights=[list(span) for span in hit.highlights],
            play_from=hit.play_from,
            exact=not hit.place.mistyped,
            **{name: hit.passage[name] for name in names},
        )


class HitPage(BaseModel):
    data: list[HitView]
    next_cursor: str | None


@router.get("", response_model=HitPage)
def search_transcripts(
    services: ServicesDep, session: SessionDep, query: Annotated[SearchQuery, Parameters()]
) -> HitPage:
    """Segments of all transcripts that have what is looked for, best first and the newest of equals.

    Drafts are found while a job runs, corrections at once. Case and accents make no difference. Where what was
    typed is rare, segments with its words in another spelling follow. Of what is very common the newest 500 are
    ranked.

    By meaning, the closest 200 are found, of finished transcripts, without highlights.
    """
    after = _decode(query.cursor) if query.cursor else None
    where = filters_of(query)
    if query.mode == Mode.WORDS:
        wanted = check_query(query.q)
        with one_of_few():
            hits = find(session, wanted, where, limit=query.limit + 1, after=after)
    else:
        with one_of_few():
            meaning = services.query_reader.read(query.q)
            if not meanings.are_kept(session):
                raise unavailable("The database has no vectors: PostgreSQL needs pgvector 0.8 (docs/search.md).")
            hits = meanings.find(session, meaning, where, limit=query.limit + 1, after=after)
    shown = hits[: query.limit]
    more = len(hits) > query.limit
    return HitPage(data=[HitView.of(hit) for hit in shown], next_cursor=_encode(shown[-1].place) if more else None)


@contextmanager
def one_of_few() -> Iterator[None]:
    """Raises Problem while others search."""
    if not AT_ONCE.acquire(timeout=WAIT_SECONDS):
        detail = "The server is busy with other searches; try again shortly."
        raise Problem(503, "unavailable", "Service unavailable", detail, headers={"Retry-After": "1"})
    try:
        yield
    finally:
        AT_ONCE.release()


def check_query(typed: str) -> Query:
    """Raises Problem."""
    try:
        return parse(typed)
    except QueryError as error:
        raise Problem(422, "invalid_query", "Invalid query", str(error)) from error


def filters_of(query: Wanted) -> Filters:
    return Filters(
        speaker=query.speaker,
        since=_midnight(query.since) if query.since else None,
        until=_midnight(query.until + timedelta(days=1)) if query.until else None,
        source=query.source,
        language=query.language,
        tag=query.tag,
        collection=query.collection,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _encode(place: Place) -> str:
    parts = place.mistyped, str(place.rank), place.recorded_at.isoformat(), str(place.job_id), place.index
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _decode(cursor: str) -> Place:
    """Raises Problem."""
    try:
        mistyped, rank, recorded_at, job_id, index = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        at = datetime.fromisoformat(recorded_at)
        if RANK.fullmatch(rank) is None or not -(2**31) <= index < 2**31 or at.tzinfo is None:
            raise invalid_cursor()
        return Place(bool(mistyped), Decimal(rank), at, uuid.UUID(job_id), int(index))
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise invalid_cursor() from error
