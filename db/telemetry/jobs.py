"""What a committed transaction on a job means for the metrics."""

from __future__ import annotations

from db.models import EventType, JobPurpose
from db.queue.transaction import SEGMENTS, JobTransaction
from db.telemetry import metrics

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
    if transaction.first_segments:
        first = next(event for event in transaction.events if event.type in SEGMENTS)
        metrics.observe(metrics.first_draft_seconds, (first.at - job.created_at).total_seconds())
    if (completed := events.get(EventType.JOB_COMPLETED)) is not None:
        seconds = (completed.at - job.created_at).total_seconds()
        metrics.observe(metrics.completion_seconds, seconds)
        if job.duration:
            metrics.observe(metrics.completion_ratio, seconds / job.duration)
