"""Metering: the audio that jobs have processed, in rows that outlive them.

A step that works on audio says in its result how much of it, and by which engine (``processed``). When a job ends,
and once more before its rows are removed, ``settle`` adds up its steps that are done and writes, for each stage
and engine, what earlier rows of the job do not hold yet. That happens under the job's lock, in the transaction
that ends the job: a step counts once, whoever ran it how often, and one that did not end well never.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Float,
    Integer,
    Numeric,
    RowMapping,
    String,
    Uuid,
    and_,
    cast,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.orm import Session

from db.models import Job, Json, Step, StepState, StoredKey, UsageRecord

UPLOAD = "upload"
"""The stage of whole recordings. The others have the names of the kinds of steps."""

LEAST_SECONDS = 0.001
"""No step is as short: a smaller difference between two sums comes from rounding."""


class Grouping(StrEnum):
    DAY = "day"
    KEY = "key"
    MODEL = "model"
    STAGE = "stage"


def processed(seconds: float, engine: Mapping[str, Any] | None = None) -> Json:
    """For the result of a step: the audio that it processed. ``engine`` has the fields of an ``EngineInfo``."""
    engine = engine or {}
    return {"audio": {"seconds": seconds, "engine": engine.get("engine"), "model": engine.get("model")}}


def seconds_of(result: Json | None) -> float:
    """The seconds of audio in a step's result. 0 in those of an older version."""
    return float((result or {}).get("audio", {}).get("seconds", 0.0))


def record_upload(session: Session, job: Job, seconds: float) -> None:
    """Count a recording, in the transaction that ends its ingest."""
    session.add(
        UsageRecord(
            tenant=job.tenant,
            key_id=job.key_id,
            job_id=job.id,
            stage=UPLOAD,
            audio_seconds=seconds,
            bytes=job.bytes,
        )
    )


def settle(session: Session, job: Job) -> None:
    """Count what the job's steps have done and no row holds yet. The job's row must be locked."""
    audio = Step.result["audio"]
    names = (audio["engine"].astext.label("engine"), audio["model"].astext.label("model"))
    done = (
        select(
            cast(Step.kind, String).label("stage"),
            *names,
            func.sum(cast(audio["seconds"].astext, Float)).label("seconds"),
        )
        .where(Step.job_id == job.id, Step.state == StepState.DONE, audio["seconds"].astext.is_not(None))
        .group_by(cast(Step.kind, String), *names)
        .subquery("done")
    )
    held = (
        select(
            UsageRecord.stage,
            UsageRecord.engine,
            UsageRecord.model,
            func.sum(UsageRecord.audio_seconds).label("seconds"),
        )
        .where(UsageRecord.job_id == job.id)
        .group_by(UsageRecord.stage, UsageRecord.engine, UsageRecord.model)
        .subquery("held")
    )
    missing = done.c.seconds - func.coalesce(held.c.seconds, 0.0)
    same = and_(
        held.c.stage == done.c.stage,
        held.c.engine.is_not_distinct_from(done.c.engine),
        held.c.model.is_not_distinct_from(done.c.model),
    )
    rows = (
        select(
            literal(job.tenant),
            literal(job.key_id, Uuid),
            literal(job.id, Uuid),
            done.c.stage,
            done.c.engine,
            done.c.model,
            _rounded(missing, 6),
        )
        .select_from(done.outerjoin(held, same))
        .where(missing > LEAST_SECONDS)
    )
    columns = ["tenant", "key_id", "job_id", "stage", "engine", "model", "audio_seconds"]
    session.execute(insert(UsageRecord).from_select(columns, rows))


def _rounded(seconds: ColumnElement[float], digits: int) -> ColumnElement[Decimal]:
    return func.round(cast(seconds, Numeric), digits)


def audio_seconds_since(session: Session, tenant: str, since: datetime) -> float:
    """Seconds of the tenant's recordings that were taken since then."""
    total = select(func.sum(UsageRecord.audio_seconds)).where(
        UsageRecord.tenant == tenant, UsageRecord.stage == UPLOAD, UsageRecord.at >= since
    )
    return float(session.scalar(total) or 0.0)


@dataclass(frozen=True, slots=True)
class Span:
    """Days in UTC, the last one included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        """The end, which belongs to the next day."""
        return datetime.combine(self.last, time(), UTC) + timedelta(days=1)


def report(
    session: Session, tenant: str, span: Span, groupings: Collection[Grouping], limit: int
) -> Sequence[RowMapping]:
    """Sums of the tenant's rows by these groupings and by stage: up to ``limit`` rows, in the order of the groups.

    A row has the columns of its groupings (``day``; ``key_id``, ``key`` and ``prefix``; ``engine`` and ``model``),
    ``stage``, ``jobs``, ``audio_seconds`` and ``bytes``.
    """
    columns = _group_columns(groupings)
    query = (
        select(
            *columns,
            cast(func.count(UsageRecord.job_id.distinct()), Integer).label("jobs"),
            cast(_rounded(func.sum(UsageRecord.audio_seconds), 3), Float).label("audio_seconds"),
            cast(func.sum(UsageRecord.bytes), BigInteger).label("bytes"),
        )
        .where(UsageRecord.tenant == tenant, UsageRecord.at >= span.since, UsageRecord.at < span.until)
        .group_by(*columns)
        .order_by(*columns)
        .limit(limit)
    )
    if Grouping.KEY in groupings:
        query = query.outerjoin(StoredKey, StoredKey.id == UsageRecord.key_id)
    return session.execute(query).mappings().all()


def column_names(groupings: Collection[Grouping]) -> list[str]:
    """The columns of a report with these groupings, in their order."""
    return [column.name for column in _group_columns(groupings)] + ["jobs", "audio_seconds", "bytes"]


def _group_columns(groupings: Collection[Grouping]) -> list[Any]:
    chosen = [grouping for grouping in Grouping if grouping in groupings or grouping == Grouping.STAGE]
    return [column for grouping in chosen for column in _columns(grouping)]


def _columns(grouping: Grouping) -> list[Any]:
    match grouping:
        case Grouping.DAY:
            return [cast(func.timezone("UTC", UsageRecord.at), Date).label("day")]
        case Grouping.KEY:
            return [UsageRecord.key_id, StoredKey.name.label("key"), StoredKey.prefix]
        case Grouping.MODEL:
            return [UsageRecord.engine, UsageRecord.model]
        case Grouping.STAGE:
            return [UsageRecord.stage]
