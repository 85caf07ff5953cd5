"""``/v1/jobs/bulk``: the same with many recordings at once."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, Self

from fastapi import APIRouter, BackgroundTasks, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.exc import IntegrityError

from api.access.audit import note
from api.access.caller import Caller
from api.cursors import decode_cursor, encode_cursor
from api.dependencies import CallerDep, Services, ServicesDep, announce, needs
from api.problems import DATABASE_AWAY, Problem, over_quota, storage_unavailable
from api.routes.collections import find_collection
from api.routes.jobs import apply, cancel, delete, restart
from api.routes.saved_searches import find_search
from api.routes.search import Wanted, check_query, filters_of, one_of_few
from api.schemas import MAX_TAGS, JobError, Label
from api.text import NO_CONTROLS
from api.transcript_archives import ZIP, archive
from db import jobs, library
from db.access import audit, quotas
from db.logs import describe
from db.models import Job, JobStatus, Scope
from db.queue.transaction import JobTransaction
from db.search.find import TooBroad, find_jobs
from speech.text.formats import Format

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/jobs/bulk", tags=["jobs"])

MOST_AT_ONCE = 1000
MOST_AWAY = 3
"""Recordings in a row that the database is asked for in vain."""

Short = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_CONTROLS)]


class Action(StrEnum):
    TAG = "tag"
    UNTAG = "untag"
    COLLECT = "collect"
    TAKE_OUT = "take_out"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


class JobFilter(BaseModel):
    """Recordings as `GET /v1/jobs` finds them; at least one of these is given."""

    model_config = ConfigDict(extra="forbid")

    status: list[JobStatus] = Field([], max_length=len(JobStatus))
    q: Short | None = None
    tag: Short | None = None
    collection: uuid.UUID | None = None

    @model_validator(mode="after")
    def _require_any(self) -> Self:
        if not (self.status or self.q or self.tag or self.collection):
            raise ValueError("give `status`, `q`, `tag` or `collection`")
        return self


class Selection(BaseModel):
    """Which recordings: `jobs`, `filter` or `search`."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[uuid.UUID] | None = Field(None, min_length=1, max_length=MOST_AT_ONCE, description="Ids.")
    filter: JobFilter | None = None
    search: uuid.UUID | None = Field(
        None,
        description="Id of a saved search: all that have its words, but for other spellings of them.",
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if sum(given is not None for given in (self.jobs, self.filter, self.search)) != 1:
            raise ValueError("give one of `jobs`, `filter` and `search`")
        return self


class BulkRequest(Selection):
    """What is to be done with which recordings."""

    action: Action
    tags: list[Label] = Field([], max_length=MAX_TAGS, description="For `tag` and `untag`.")
    collection: uuid.UUID | None = Field(None, description="For `collect` and `take_out`.")
    cursor: str | None = Field(None, description="`next_cursor` of the answer before, with all else as it was.")

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        if (self.action in (Action.TAG, Action.UNTAG)) != bool(self.tags):
            raise ValueError("`tags` are for `tag` and `untag`, which need some")
        if (self.action in (Action.COLLECT, Action.TAKE_OUT)) != (self.collection is not None):
            raise ValueError("`collection` is for `collect` and `take_out`, which need it")
        if self.jobs is not None and self.cursor is not None:
            raise ValueError("`cursor` is for `filter` and `search`")
        return self


class BulkResult(BaseModel):
    job_id: uuid.UUID
    outcome: Literal["done", "unchanged", "failed"] = Field(description="`unchanged`: it was so already.")
    error: JobError | None


class BulkAnswer(BaseModel):
    """What became of each recording, in the order in which they were named, or newest first."""

    action: Action
    results: list[BulkResult]
    next_cursor: str | None = Field(description=f"Where more than {MOST_AT_ONCE} are selected: go on with it.")


class BulkExport(Selection):
    """Transcripts of which recordings, and how."""

    jobs: list[uuid.UUID] | None = Field(None, min_length=1, max_length=library.MOST_EXPORTED, description="Ids.")
    format: Format = Format.TXT


@router.post("", response_model=BulkAnswer, dependencies=[needs(Scope.JOBS_WRITE)])
def change_jobs(
    wanted: BulkRequest, request: Request, services: ServicesDep, caller: CallerDep, background: BackgroundTasks
) -> BulkAnswer:
    """Tag recordings, collect, stop, retry or delete them: each for itself, whatever becomes of the others.

    To repeat a request does no harm. `filter` and `search` take the scope `jobs:read`, too.
    """
    note(request, wanted.action)
    change = _change_of(wanted, services, caller)
    if wanted.jobs is not None:
        ids, next_cursor = list(dict.fromkeys(wanted.jobs)), None
    else:
        found = _select(wanted, services, caller, MOST_AT_ONCE + 1, wanted.cursor)
        shown = found[:MOST_AT_ONCE]
        ids = [job.id for job in shown]
        more = len(found) > MOST_AT_ONCE
        next_cursor = encode_cursor(shown[-1].created_at, shown[-1].id) if more else None
    changed: list[JobTransaction] = []
    try:
        results = _apply_all(services, caller, wanted.action, change, ids, changed)
    except Exception:
        # an error's response has no tasks behind it
        for transaction in changed:
            announce(services, transaction)
        raise
    for transaction in changed:
        background.add_task(announce, services, transaction)
    return BulkAnswer(action=wanted.action, results=results, next_cursor=next_cursor)


Change = Callable[[JobTransaction], bool]
"""Returns whether anything has changed. May raise Problem."""


def _change_of(wanted: BulkRequest, services: Services, caller: Caller) -> Change:
    """Raises Problem."""
    if wanted.collection is not None:
        with services.for_tenant(caller.tenant)() as session:
            found = find_collection(session, caller.tenant, str(wanted.collection)).id
        return partial(_collect if wanted.action is Action.COLLECT else _take_out, found)
    changes: dict[Action, Change] = {
        Action.TAG: partial(_tag, wanted.tags),
        Action.UNTAG: partial(_untag, wanted.tags),
        Action.CANCEL: _cancel,
        Action.RETRY: partial(_retry, services),
        Action.DELETE: partial(_delete, caller.actor),
    }
    return changes[wanted.action]


def _apply_all(
    services: Services,
    caller: Caller,
    action: Action,
    change: Change,
    ids: Sequence[uuid.UUID],
    changed: list[JobTransaction],
) -> list[BulkResult]:
    """Once the database is away for some in a row, it is for the others."""
    results: list[BulkResult] = []
    away = 0
    for job_id in ids:
        if away == MOST_AWAY:
            results.append(_failed(job_id, storage_unavailable()))
            continue
        try:
            results.append(_apply(services, caller, action, change, job_id, changed))
            away = 0
        except DATABASE_AWAY as error:
            logger.warning("bulk %s of job %s failed: %s", action, job_id, describe(error))
            results.append(_failed(job_id, storage_unavailable()))
            away += 1
    return results


def _apply(
    services: Services,
    caller: Caller,
    action: Action,
    change: Change,
    job_id: uuid.UUID,
    changed: list[JobTransaction],
) -> BulkResult:
    """In a transaction of its own, with its entry in the audit log."""
    has_changed = False

    def change_and_note(transaction: JobTransaction) -> None:
        nonlocal has_changed
        if has_changed := change(transaction):
            audit.note(transaction.session, caller.tenant, caller.actor, f"bulk {action}", job_id)

    try:
        transaction = apply(services, caller.tenant, str(job_id), change_and_note)
    except quotas.QuotaExceeded as error:
        return _failed(job_id, over_quota(error))
    except Problem as problem:
        if action is Action.DELETE and problem.code == "job_not_found":
            return BulkResult(job_id=job_id, outcome="unchanged", error=None)
        return _failed(job_id, problem)
    if has_changed:
        changed.append(transaction)
    return BulkResult(job_id=job_id, outcome="done" if has_changed else "unchanged", error=None)


def _failed(job_id: uuid.UUID, problem: Problem) -> BulkResult:
    error = JobError(code=problem.code, message=problem.detail)
    return BulkResult(job_id=job_id, outcome="failed", error=error)


def _tag(tags: Sequence[str], transaction: JobTransaction) -> bool:
    job = transaction.job
    tagged = list(dict.fromkeys([*job.tags, *tags]))
    if len(tagged) > MAX_TAGS:
        detail = f"The recording would have {len(tagged)} tags, and may have {MAX_TAGS}."
        raise Problem(409, "too_many_tags", "Too many tags", detail)
    changes = tagged != job.tags
    job.tags = tagged
    return changes


def _untag(tags: Sequence[str], transaction: JobTransaction) -> bool:
    job = transaction.job
    left = [tag for tag in job.tags if tag not in tags]
    changes = left != job.tags
    job.tags = left
    return changes


def _collect(collection_id: uuid.UUID, transaction: JobTransaction) -> bool:
    job = transaction.job
    # it may be deleted at this moment
    with suppress(IntegrityError), transaction.session.begin_nested():
        return library.add_to(transaction.session, collection_id, job.tenant, [job.id]) > 0
    detail = f"There is no collection '{collection_id}' any more."
    raise Problem(404, "collection_not_found", "Collection not found", detail)


def _take_out(collection_id: uuid.UUID, transaction: JobTransaction) -> bool:
    return library.take_from(transaction.session, collection_id, [transaction.job.id]) > 0


def _cancel(transaction: JobTransaction) -> bool:
    if transaction.job.status is JobStatus.CANCELLED:
        return False
    cancel(transaction)
    return True


def _retry(services: Services, transaction: JobTransaction) -> bool:
    if not transaction.job.status.finished:
        return False
    restart(services.settings, transaction)
    return True


def _delete(requested_by: str, transaction: JobTransaction) -> bool:
    delete(transaction, requested_by)
    return True


@router.post("/transcripts", response_class=Response, responses=ZIP, dependencies=[needs(Scope.JOBS_READ)])
def export_transcripts(wanted: BulkExport, services: ServicesDep, caller: CallerDep) -> StreamingResponse:
    """Transcripts of recordings in one zip, named like them. It is sent while it is made.

    What is not there, or not any more, is left out.
    """
    found = _select(wanted, services, caller, library.MOST_EXPORTED + 1)
    zipped = archive(services, caller.tenant, found, "transcripts", wanted.format)
    with services.for_tenant(caller.tenant).begin() as session:
        audit.note(session, caller.tenant, caller.actor, "bulk transcripts", *(job.id for job in found))
    return zipped


def _select(
    wanted: Selection, services: Services, caller: Caller, limit: int, cursor: str | None = None
) -> Sequence[Job]:
    """Up to ``limit`` recordings behind the cursor, newest first. Raises Problem."""
    caller.require([Scope.JOBS_READ])
    after = decode_cursor(cursor) if cursor else None
    tenant = caller.tenant
    with services.for_tenant(tenant)() as session:
        if wanted.jobs is not None:
            return jobs.named(session, tenant, wanted.jobs)
        if wanted.filter is not None:
            of = wanted.filter
            return jobs.page(
                session,
                tenant,
                limit=limit,
                statuses=of.status,
                containing=of.q,
                tag=of.tag,
                collection=of.collection,
                after=after,
            )
        query = Wanted.model_validate(find_search(session, tenant, str(wanted.search)).query)
        with one_of_few():
            try:
                return find_jobs(session, check_query(query.q), filters_of(query), limit=limit, after=after)
            except TooBroad as error:
                raise _too_broad() from error


def _too_broad() -> Problem:
    detail = "The saved search finds more than is read in five seconds; narrow it by from/to, tag or collection."
    return Problem(409, "search_too_broad", "Search too broad", detail)
