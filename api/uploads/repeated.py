"""Requests that are sent again under the same ``Idempotency-Key``."""

from __future__ import annotations

from api.problems import Problem
from db.models import Job


def check_same_request(first: Job, job: Job) -> Job:
    """The job that the key made first. Raises Problem if it was used for another request."""
    same_recording = (first.source_digest or first.sha256) == (job.source_digest or job.sha256)
    if same_recording and first.options == job.options and first.deleted_at is None:
        return first
    raise Problem(
        422,
        "idempotency_key_reused",
        "Idempotency key reused",
        f"This Idempotency-Key made job {first.id} from another file, other options, or a job since deleted; "
        "use a new key.",
    )
