"""What must hold once all jobs have ended."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import func, select

from db.models import Event, EventType, Job, JobStatus, Step, StepState, UsageRecord
from db.objects import named
from db.session import Sessions
from db.settings import Settings
from speech.text.formats import file_names
from tasks.maintenance.sweep import sweep
from tasks.runtime import Runtime
from tests.chaos.cluster import SubmittedJob
from tests.metering import usage_losses


class Audited(Protocol):
    """What is audited: a system at rest, and the jobs that it has accepted."""

    jobs: list[SubmittedJob]
    sessions: Sessions
    settings: Settings

    def transcript(self, job: SubmittedJob) -> dict[str, Any]: ...


def find_losses(cluster: Audited, baseline: Mapping[str, Any] | None) -> list[str]:
    """A sentence for everything that differs from an undisturbed run, whose transcripts ``baseline`` has."""
    losses = [sentence for job in cluster.jobs for sentence in _job_losses(cluster, job, baseline)]
    with cluster.sessions() as session:
        open_steps = select(func.count(Step.id)).where(Step.state.in_([StepState.READY, StepState.LEASED]))
        if open_count := session.scalar(open_steps):
            losses.append(f"{open_count} steps are still open")
        job_ids = set(map(str, session.scalars(select(Job.id))))
        metered = set(map(str, session.scalars(select(UsageRecord.job_id).distinct())))
        accepted = [job.job_id for job in cluster.jobs]
    if sorted(job_ids) != sorted(accepted):
        losses.append(f"{len(accepted)} uploads were accepted and {len(job_ids)} jobs exist")
    if unknown := metered - job_ids:
        losses.append(f"usage is counted for jobs that do not exist: {sorted(unknown)}")
    return losses + _object_losses(cluster)


def changes(transcript: Mapping[str, Any], undisturbed: Mapping[str, Any]) -> list[str]:
    """The lines in which a transcript differs from that of an undisturbed run."""
    expected, found = (
        json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (undisturbed, transcript)
    )
    return list(difflib.unified_diff(expected, found, "undisturbed", "found", lineterm="", n=1))


def _job_losses(cluster: Audited, job: SubmittedJob, baseline: Mapping[str, Any] | None) -> list[str]:
    name = f"{job.recording.name} ({job.job_id})"
    losses = []
    with cluster.sessions() as session:
        row = session.get_one(Job, job.job_id)
        log = session.scalars(select(Event).where(Event.job_id == row.id).order_by(Event.seq)).all()
        losses += usage_losses(session, row.id)
        states = set(session.scalars(select(Step.state).where(Step.job_id == row.id)))
    types = Counter(event.type for event in log)
    if row.status != JobStatus.COMPLETED or row.degraded:
        losses.append(f"{name} is {row.status}, degraded: {row.degraded}, {row.error_message}")
    if types[EventType.JOB_COMPLETED] != 1:
        losses.append(f"{name} was completed {types[EventType.JOB_COMPLETED]} times")
    if [event.seq for event in log] != list(range(1, len(log) + 1)):
        losses.append(f"the log of {name} has gaps")
    if [event.seq for event in job.events] != [event.seq for event in log]:
        losses.append(f"the client of {name} saw {[e.seq for e in job.events]} of {len(log)} events")
    finals = [event.data["index"] for event in log if event.type == EventType.SEGMENT_FINAL]
    if len(finals) != len(set(finals)):
        losses.append(f"segments of {name} became final twice")
    if states != {StepState.DONE}:
        losses.append(f"steps of {name} are {sorted(states)}")
    if row.status == JobStatus.COMPLETED and baseline is not None:
        changed = changes(cluster.transcript(job), baseline[job.recording.name])
        if changed:
            losses.append(
                "\n".join([f"the transcript of {name} differs from that of an undisturbed run", *changed])
            )
    return losses


def _object_losses(cluster: Audited) -> list[str]:
    """After a sweep without grace, S3 holds exactly the objects that rows refer to."""
    runtime = Runtime(cluster.settings)
    sweep(runtime, grace=timedelta(0), upload_grace=timedelta(0))
    there = {key for key, _ in runtime.storage.list("jobs/")}
    losses = []
    kept: set[str] = set()
    for job in cluster.jobs:
        with runtime.sessions() as session:
            keys, prefix = named.of_job(session, job.job_id, sorted(there))
        artifacts = {key for key in there if prefix and key.startswith(prefix)}
        if len(artifacts) != len(file_names()):
            losses.append(f"job {job.job_id} has {len(artifacts)} artifacts")
        if missing := keys - there:
            losses.append(f"objects of job {job.job_id} are missing: {sorted(missing)}")
        kept |= keys | artifacts
    if orphans := there - kept:
        losses.append(f"nothing refers to {sorted(orphans)}")
    return losses
