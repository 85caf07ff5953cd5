"""Waiting for a job's end on behalf of a client that holds its connection open."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from anyio import to_thread
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from api.dependencies import Services, announce
from api.problems import Problem, job_not_found
from api.routes.jobs import cancel
from db import jobs
from db.models import Job, JobStatus
from db.queue.transaction import JobGone, job_transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def until_ended(services: Services, request: Request, job: Job, *, stays: bool) -> None:
    """Until the job has ended. No thread waits meanwhile.

    Raises Problem when the time is over, and ClientDisconnect when the client has hung up, which cancels a job
    that does not stay.
    """
    ended = asyncio.create_task(_until_end(services, job))
    left = asyncio.create_task(_until_left(request))
    try:
        done, _ = await asyncio.wait(
            {ended, left}, timeout=services.settings.transcribe_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for task in (ended, left):
            task.cancel()
        await asyncio.gather(ended, left, return_exceptions=True)
    if ended in done:
        await ended
    elif left in done:
        if not stays:
            await to_thread.run_sync(_cancel, services, job)
        raise ClientDisconnect
    else:
        raise _not_ready(job, services.settings.transcribe_seconds)


async def _until_end(services: Services, job: Job) -> None:
    async for _ in follow(services, job):
        pass


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def follow(services: Services, job: Job) -> AsyncGenerator[bytes]:
    """The encoded events of a job that was just read, and heartbeats, until it ends.

    After an outage of Postgres some come again.
    """
    while True:
        try:
            async with aclosing(services.hub.stream(job.id, job.event_seq)) as events:
                async for event in events:
                    yield event
        except SQLAlchemyError as error:
            await _pause(job, error)
        else:
            return


async def despite_outages(job: Job, read: Callable[[], T]) -> T:
    """What is read of a job, in a thread, once Postgres is there."""
    while True:
        try:
            return await to_thread.run_sync(read)
        except SQLAlchemyError as error:
            await _pause(job, error)


async def _pause(job: Job, error: SQLAlchemyError) -> None:
    logger.warning("waiting for job %s, Postgres is away: %s", job.id, error)
    await asyncio.sleep(1)


def _cancel(services: Services, job: Job) -> None:
    """End a job whose client hung up, since nobody knows of it."""
    try:
        with job_transaction(services.for_tenant(job.tenant), job.id) as transaction:
            cancel(transaction)
    except (JobGone, Problem):  # deleted or finished meanwhile
        return
    except SQLAlchemyError as error:
        logger.warning("job %s goes on, although its client hung up: %s", job.id, error)
        return
    announce(services, transaction)
    logger.info("job %s is cancelled: its client hung up", job.id)


def completed_job(session: Session, tenant: str, job_id: uuid.UUID) -> Job:
    """The job. Raises Problem if it did not complete."""
    job = jobs.get(session, tenant, job_id)
    if job is None:
        raise job_not_found(str(job_id))
    if job.status != JobStatus.COMPLETED:
        raise _failure(job)
    return job


def _failure(job: Job) -> Problem:
    if job.status == JobStatus.CANCELLED:
        status, code, message = 409, "job_cancelled", f"Job {job.id} was cancelled."
    else:
        code, message = job.error_code or "step_failed", job.error_message or "The job failed."
        status = 422 if code.startswith(("audio_", "url_", "known_speaker_")) else 500
    if code == "url_unreachable":
        status = 502
    headers = {"Location": f"/v1/jobs/{job.id}"}
    return Problem(status, code, "Not transcribed", message, headers=headers, job_id=str(job.id))


def _not_ready(job: Job, seconds: float) -> Problem:
    location = f"/v1/jobs/{job.id}"
    return Problem(
        504,
        "transcript_not_ready",
        "Transcript not ready",
        f"Job {job.id} takes longer than {seconds:g} s, and goes on: its transcript will be at "
        f"{location}/transcript.",
        headers={"Location": location},
        job_id=str(job.id),
    )
