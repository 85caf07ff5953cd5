"""What endpoints ask for: the process's connections, the tenant, a session, a job."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, TypeVar

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from api.events import Hub
from api.problems import Problem, job_not_found
from db import jobs
from db.bus import Bus
from db.models import Job
from db.queue.transaction import JobTransaction
from db.session import Sessions
from db.settings import Settings
from db.storage import Storage
from tasks.queue import send_hints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """What one API process holds open."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    bus: Bus
    hub: Hub
    uploads: CapacityLimiter


def connections(request: Request) -> Connections:
    found = request.app.state.connections
    assert isinstance(found, Connections)  # noqa: S101  (set by the application's lifespan)
    return found


Connected = Annotated[Connections, Depends(connections)]

bearer = HTTPBearer(auto_error=False, description="An API key, where the server has any.")


def tenant(held: Connected, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    """Whose jobs the request may see: everybody's own, or ``default`` on a server without keys."""
    keys = held.settings.api_keys
    if not keys:
        return "default"
    if credentials is not None:
        for key, name in keys.items():
            if hmac.compare_digest(key.encode(), credentials.credentials.encode()):
                return name
    raise Problem(
        401,
        "unauthorized",
        "Unauthorized",
        "Send a valid API key as `Authorization: Bearer KEY`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


Tenant = Annotated[str, Depends(tenant)]


def session(held: Connected) -> Iterator[Session]:
    with held.sessions() as opened:
        yield opened


# scope="function": closed before the answer is sent, so that no stream or slow client holds a connection
DbSession = Annotated[Session, Depends(session, scope="function")]


def announce(held: Connections, transaction: JobTransaction) -> None:
    """After commit and answer: tell subscribers, then workers."""
    held.bus.publish(transaction.events)
    send_hints(transaction.ready)


def look_up(
    get: Callable[[Session, str, uuid.UUID], T | None], opened: Session, tenant_name: str, row_id: str
) -> T | None:
    """A row of the tenant's; None for anything that is not the id of one."""
    try:
        return get(opened, tenant_name, uuid.UUID(row_id))
    except ValueError:
        return None


def find_job(opened: Session, tenant_name: str, job_id: str) -> Job:
    """The tenant's job; anything that is not the id of one is a 404."""
    job = look_up(jobs.get, opened, tenant_name, job_id)
    if job is None:
        raise job_not_found(job_id)
    return job


def current_job(job_id: str, held: Connected, tenant_name: Tenant) -> Job:
    """Reads and lets go: else threads wait for connections, and those for threads."""
    with held.sessions() as opened:
        return find_job(opened, tenant_name, job_id)


CurrentJob = Annotated[Job, Depends(current_job)]
