"""The events of a job, whatever becomes of the connection."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from http import HTTPStatus

import httpx

from longhand.api import Api, path, pause, stranger
from longhand.errors import Unreachable
from longhand.types import Event

ENDS = ("job.completed", "job.failed", "job.cancelled")

SILENCE_SECONDS = 60.0
"""Seconds without an event or a heartbeat, over any number of connections, after which a stream is given up."""


async def follow(api: Api, job_id: str, after: int) -> AsyncGenerator[Event, None]:
    """The events behind number ``after`` until the job's last; a lost connection is resumed where it broke off."""
    last_contact = time.monotonic()
    attempt = 0
    while True:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        answer = None
        ended = False
        broken: Exception | None = None
        try:
            answer = await api.call("GET", path("jobs", job_id, "events"), headers=headers, stream=True)
            if answer.status_code == HTTPStatus.NO_CONTENT:
                return
            if "text/event-stream" not in answer.headers.get("Content-Type", ""):
                raise stranger(answer, "a stream of events")
            async for event in api.transport.events(answer):
                attempt = 0
                if not event.data:  # a heartbeat, parsed as an event since the last id persists
                    continue
                found = Event(int(event.id), event.event, json.loads(event.data))
                ended = found.type in ENDS or (ended and found.type != "job.retried")
                after = found.seq
                yield found
        except (httpx.TransportError, Unreachable) as error:
            broken = error
        finally:
            if answer is not None:
                # heartbeats are no events before the first one; the last of them is no older than the timeout
                if answer.num_bytes_downloaded:
                    last_contact = time.monotonic()
                await api.transport.release(answer)
        # the stream may have ended before the job did
        if ended:
            return
        if time.monotonic() - last_contact > SILENCE_SECONDS:
            raise Unreachable(
                f"Lost the events of job {job_id}: {broken or 'streams end without any.'}"
            ) from broken
        attempt += 1
        await api.transport.sleep(min(pause(attempt), 5.0))
