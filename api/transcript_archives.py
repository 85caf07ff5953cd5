"""The transcripts of several recordings in one zip."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

from fastapi.responses import StreamingResponse

from api.archives import Entry, zipped
from api.dependencies import Services
from api.downloads import attachment, file_stem
from api.problems import Problem
from api.routes.transcripts import TranscriptQuery, transcript_file
from db import jobs, library
from db.models import Job
from speech.text.formats import Format

ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}
"""What operations that send one describe."""


def archive(
    services: Services, tenant: str, recordings: Sequence[Job], name: str, format_: Format
) -> StreamingResponse:
    """A file for each recording, made when its turn comes. Raises Problem where they are too many."""
    if len(recordings) > library.MOST_EXPORTED:
        detail = f"One file has {library.MOST_EXPORTED} transcripts at most, and this had more: divide it."
        raise Problem(409, "too_many_recordings", "Too many recordings", detail)
    read = partial(_transcript, services, tenant, TranscriptQuery(format=format_))
    files = list(entries(recordings, format_, read))
    return StreamingResponse(zipped(files), media_type="application/zip", headers=attachment(name, "zip"))


def entries(
    recordings: Sequence[Job], format_: Format, read: Callable[[uuid.UUID], bytes | None]
) -> Iterator[Entry]:
    """Those of one name are numbered."""
    taken: set[str] = set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for job in recordings:
        name = stem = file_stem(job.shown_name)
        while name.casefold() in taken:
            name = f"{stem} ({next(numbers[stem.casefold()])})"
        taken.add(name.casefold())
        yield Entry(f"{name}.{format_.ending}", job.created_at, partial(read, job.id))


def _transcript(services: Services, tenant: str, query: TranscriptQuery, job_id: uuid.UUID) -> bytes | None:
    """As it is when its turn comes; None once the job is deleted."""
    with services.for_tenant(tenant)() as session:
        job = jobs.get(session, tenant, job_id)
    return None if job is None else transcript_file(job, services, query)
