"""Where to search: what is said of recordings, and of who speaks in them; and how Postgres is to plan it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

from sqlalchemy import ColumnElement, Row, Select, Subquery, func, select, text, tuple_
from sqlalchemy.orm import Session

from db import jobs
from db.models import Job, Passage, StoredSpeaker
from db.models.search import TYPED

MACHINES_LABEL = re.compile("SPEAKER_.*")
IS_TYPED = text(TYPED)

BY_INDEX = {
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "5s",
    "work_mem": "32MB",
}
"""Compiling a search, or dividing it among processes, takes longer than the search; none is worth five seconds. In
less memory Postgres would keep only on which pages of the table a beginning is."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Where to search; everywhere, where nothing is said."""

    speaker: str | None = None
    """A name, or a label of a recording."""
    since: datetime | None = None
    until: datetime | None = None
    """Of when the jobs were made, the latter excluded."""
    source: str | None = None
    language: str | None = None
    tag: str | None = None
    collection: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Where to search: the speaker is looked for as a label, and apart from that as a name."""

    recordings: Select[uuid.UUID]
    """Their ids."""
    some: bool
    """Whether filters leave some of the recordings, and not all."""
    speaks: Callable[[Subquery], ColumnElement[bool]] | None = None
    """Which of their passages."""


def parts_of(session: Session, filters: Filters) -> list[Part]:
    """Together they are where the filters say."""
    recordings, name = recordings_of(filters), filters.speaker
    some = replace(filters, speaker=None, language=None) != Filters()
    if name is None:
        return [Part(recordings, some)]

    def labelled(passages: Subquery) -> ColumnElement[bool]:
        return passages.c.speaker == name

    def named(passages: Subquery) -> ColumnElement[bool]:
        speakers = select(StoredSpeaker.job_id, StoredSpeaker.label).where(StoredSpeaker.name == name)
        return tuple_(passages.c.job_id, passages.c.speaker).in_(speakers)

    if MACHINES_LABEL.fullmatch(name):
        parts = [Part(recordings, some, labelled)]
    else:
        parts = _where(
            session, recordings, select(Passage.job_id).where(Passage.speaker == name, IS_TYPED), labelled
        )
    by_name = select(StoredSpeaker.job_id).where(StoredSpeaker.name == name)
    return parts + _where(session, recordings, by_name, named)


def _where(
    session: Session,
    recordings: Select[uuid.UUID],
    found: Select[uuid.UUID],
    speaks: Callable[[Subquery], ColumnElement[bool]],
) -> list[Part]:
    """The recordings that are found as well, if there are any at all."""
    there = session.scalar(found.limit(1)) is not None
    return [Part(recordings.where(Job.id.in_(found)), True, speaks)] if there else []


def configure(session: Session, values: Mapping[str, str]) -> None:
    """Set parameters of Postgres until the transaction ends."""
    session.execute(select(*(func.set_config(name, value, True) for name, value in values.items())))


def having_chunks(newest: Sequence[Row[uuid.UUID, int]], chunks: int) -> list[uuid.UUID]:
    """Of recordings with the number of their chunks, the first that together have so many, as far as there are."""
    before = accumulate((count for _, count in newest), initial=0)
    return [job_id for (job_id, _), passed in zip(newest, before, strict=False) if passed < chunks]


def recordings_of(filters: Filters) -> Select[uuid.UUID]:
    """The ids of those that the filters leave."""
    found = select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION)
    if filters.since is not None:
        found = found.where(Job.created_at >= filters.since)
    if filters.until is not None:
        found = found.where(Job.created_at < filters.until)
    if filters.source is not None:
        found = found.where(Job.options["source"].astext == filters.source)
    if filters.tag is not None:
        found = found.where(jobs.tagged(filters.tag))
    if filters.collection is not None:
        found = found.where(Job.id.in_(jobs.ids_in(filters.collection)))
    return found
