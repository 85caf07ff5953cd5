"""What must hold once the dust has settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from db.models import Event, EventType, Job, JobStatus, Step, StepState
from speech.text.formats import Format
from tasks.maintenance.sweep import referenced, sweep
from tasks.runtime import Runtime
from tests.chaos.world import Submitted, World


def lost(world: World, calm: Mapping[str, Any]) -> list[str]:
    """A sentence for everything that is not as an undisturbed run would have left it."""
    found = [sentence for job in world.jobs for sentence in _job(world, job, calm)]
    with world.sessions() as session:
        open_steps = select(func.count(Step.id)).where(Step.state.in_([StepState.READY, StepState.LEASED]))
        if left := session.scalar(open_steps):
            found.append(f"{left} steps are still open")
        made = set(map(str, session.scalars(select(Job.id))))
        accepted = [job.job_id for job in world.jobs]
    if sorted(made) != sorted(accepted):
        found.append(f"{len(accepted)} uploads were accepted and {len(made)} jobs exist")
    return found + _objects(world)


def _job(world: World, job: Submitted, calm: Mapping[str, Any]) -> list[str]:
    name = f"{job.recording.name} ({job.job_id})"
    found = []
    with world.sessions() as session:
        row = session.get_one(Job, job.job_id)
        log = session.scalars(select(Event).where(Event.job_id == row.id).order_by(Event.seq)).all()
        states = set(session.scalars(select(Step.state).where(Step.job_id == row.id)))
    types = Counter(event.type for event in log)
    if row.status != JobStatus.COMPLETED or row.degraded:
        found.append(f"{name} is {row.status}, degraded: {row.degraded}, {row.error_message}")
    if types[EventType.JOB_COMPLETED] != 1:
        found.append(f"{name} was completed {types[EventType.JOB_COMPLETED]} times")
    if [event.seq for event in log] != list(range(1, len(log) + 1)):
        found.append(f"the log of {name} has gaps")
    if [event.seq for event in job.events] != [event.seq for event in log]:
        found.append(f"the client of {name} saw {[e.seq for e in job.events]} of {len(log)} events")
    finals = [event.data["index"] for event in log if event.type == EventType.SEGMENT_FINAL]
    if len(finals) != len(set(finals)):
        found.append(f"segments of {name} became final twice")
    if states != {StepState.DONE}:
        found.append(f"steps of {name} are {sorted(states)}")
    if row.status == JobStatus.COMPLETED and world.transcript(job) != calm[job.recording.name]:
        found.append(f"the transcript of {name} differs from that of an undisturbed run")
    return found


def _objects(world: World) -> list[str]:
    """After a sweep that spares nothing for its youth, S3 holds what rows name, and all of it."""
    runtime = Runtime(world.settings)
    sweep(runtime, grace=timedelta(0), upload_grace=timedelta(0))
    there = {key for key, _ in runtime.storage.list("jobs/")}
    found = []
    named: set[str] = set()
    for job in world.jobs:
        keys, prefix = referenced(runtime, job.job_id)
        artifacts = {key for key in there if prefix and key.startswith(prefix)}
        if len(artifacts) != len(Format):
            found.append(f"job {job.job_id} has {len(artifacts)} artifacts")
        if missing := keys - there:
            found.append(f"objects of job {job.job_id} are missing: {sorted(missing)}")
        named |= keys | artifacts
    if orphans := there - named:
        found.append(f"nothing refers to {sorted(orphans)}")
    return found
