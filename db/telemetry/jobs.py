"""What a committed transaction on a job means for the metrics."""

from __future__ import annotations

from db.models import EventType, JobPurpose
from db.queue.transaction import JobTransaction
from db.telemetry import metrics

SEGMENTS = (EventType.SEGMENT_DRAFT, EventType.SEGMENT_FINAL)
ENDS = {
    EventType.JOB_COMPLETED: "completed",
    EventType.JOB_FAILED: "failed",
    EventType.JOB_CANCELLED: "cancelled",
}
COUNTED = {EventType.JOB_QUEUED, *SEGMENTS, *ENDS}


def count_events(transaction: JobTransaction) -> None:
    """Call it after the commit."""
    events = {event.type: event for event in transaction.events}
    if not events.keys() & COUNTED:
        return
    job = transaction.job
    if EventType.JOB_QUEUED in events:
        metrics.jobs_created.labels(job.purpose, job.priority).inc()
    for type_, status in ENDS.items():
        if type_ in events:
            metrics.jobs_ended.labels(job.purpose, status).inc()
    if job.purpose != JobPurpose.RECORDING:
        return
    first = next((events[type_] for type_ in SEGMENTS if type_ in events), None)
    if first is not None and (job.drafted, job.final) in ((1, 0), (0, 1)):
        metrics.observe(metrics.first_draft_seconds, (first.at - job.created_at).total_seconds())
    if (completed := events.get(EventType.JOB_COMPLETED)) is not None:
        seconds = (completed.at - job.created_at).total_seconds()
        metrics.observe(metrics.completion_seconds, seconds)
        if job.duration:
            metrics.observe(metrics.completion_ratio, seconds / job.duration)
