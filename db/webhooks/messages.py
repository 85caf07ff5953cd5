"""What webhooks tell: which events of which jobs, and the body that is sent.

A body names what happened and holds nothing that was said: it may wait for a day, is sent to wherever an address
leads, and is repeated in logs on the way. The transcript is fetched with a key, under the rights of that key, and
as it is by then; once it is deleted, it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from db.models import EventType, Job, JobPurpose, Json, ReadingKind, WebhookEvent

NAMES: Mapping[tuple[JobPurpose, EventType], WebhookEvent] = {
    (JobPurpose.RECORDING, EventType.JOB_COMPLETED): WebhookEvent.JOB_COMPLETED,
    (JobPurpose.RECORDING, EventType.JOB_FAILED): WebhookEvent.JOB_FAILED,
    (JobPurpose.RECORDING, EventType.JOB_CANCELLED): WebhookEvent.JOB_CANCELLED,
    (JobPurpose.RECORDING, EventType.SPEAKERS_ASSIGNED): WebhookEvent.SPEAKERS_ASSIGNED,
    **{
        (JobPurpose.RECORDING, EventType(f"{kind}.{how}")): WebhookEvent(f"reading.{how}")
        for kind in ReadingKind
        for how in ("completed", "failed")
    },
    (JobPurpose.EXPORT, EventType.JOB_COMPLETED): WebhookEvent.EXPORT_COMPLETED,
    (JobPurpose.EXPORT, EventType.JOB_FAILED): WebhookEvent.EXPORT_FAILED,
    (JobPurpose.FINETUNE, EventType.JOB_COMPLETED): WebhookEvent.FINETUNE_COMPLETED,
    (JobPurpose.FINETUNE, EventType.JOB_FAILED): WebhookEvent.FINETUNE_FAILED,
}

READINGS = frozenset({WebhookEvent.READING_COMPLETED, WebhookEvent.READING_FAILED})

ENDS = frozenset({WebhookEvent.JOB_COMPLETED, WebhookEvent.JOB_FAILED, WebhookEvent.JOB_CANCELLED})
"""What the address is told that a job itself names."""

TOLD = frozenset(type_ for _, type_ in NAMES)
"""Types of events that are looked at for webhooks at all."""


def name_of(job: Job, type_: EventType) -> WebhookEvent | None:
    """What webhooks call the event; None for what they are not told, such as all of an enrolment."""
    return None if job.voice_id is not None else NAMES.get((job.purpose, type_))


def job_message(name: WebhookEvent, job: Job, type_: EventType, seq: int, at: datetime, told: Json) -> str:
    """The body of an event of a job, under the job's lock. ``told`` is the event's data."""
    url = {
        JobPurpose.RECORDING: f"/v1/jobs/{job.id}",
        JobPurpose.EXPORT: f"/v1/exports/{job.id}",
        JobPurpose.FINETUNE: f"/v1/finetunes/{job.id}",
    }[job.purpose]
    urls = {"self": url}
    data: Json = {"id": str(job.id), "seq": seq, "status": job.status}
    if job.purpose == JobPurpose.RECORDING:
        urls |= {"transcript": f"{url}/transcript", "events": f"{url}/events"}
        data |= {"duration": job.duration, "language": job.language, "degraded": job.degraded}
    error = {"code": job.error_code, "message": job.error_message} if job.error_code else None
    if name in READINGS:
        urls["reading"] = f"{url}/readings/{told['number']}"
        data |= {"number": told["number"], "kind": type_.partition(".")[0]}
        error = told.get("error")
    return message(name, at, data | {"error": error, "urls": urls})


def message(name: WebhookEvent, at: datetime, data: Json) -> str:
    """The body: JSON of ``{type, timestamp, data}``, on one line."""
    body = {"type": name, "timestamp": at.isoformat(), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
