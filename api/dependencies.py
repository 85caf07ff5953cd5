"""Dependencies of endpoints: the process's services, the tenant, a session, a job."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlalchemy.orm import Session

from api.access.audit_log import AuditLog
from api.access.authenticate import Authenticator
from api.access.caller import Caller
from api.access.counters import Counters
from api.access.directory import Directory
from api.access.rates import Rates
from api.access.streams import StreamSlots
from api.events import Hub
from api.health import HealthChecks
from api.meaning import QueryReader
from api.problems import job_not_found
from api.uploads.slots import UploadSlots
from db import jobs
from db.events.bus import Bus
from db.models import Job, Scope
from db.objects.storage import Storage
from db.queue.transaction import JobTransaction
from db.secrets import Secrets
from db.session import Sessions
from db.settings import Settings
from db.telemetry.jobs import count_events
from db.telemetry.queue import QueueCollector
from db.tenancy import TenantSessions
from http_engines.endpoints import EndpointsFile
from tasks.queue import send_hints

A = TypeVar("A", str, str | None)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """The shared connections and state of one API process."""

    settings: Settings
    for_tenant: TenantSessions
    """What requests use: sessions that see one tenant's rows alone."""
    across_tenants: Sessions
    """For what has to look across tenants; a test names the places where that is."""
    storage: Storage
    bus: Bus
    hub: Hub
    uploads: UploadSlots
    health: HealthChecks
    directory: Directory
    authenticator: Authenticator
    audit: AuditLog
    counters: Counters
    rates: Rates
    streams: StreamSlots
    secrets: Secrets
    endpoints: EndpointsFile
    """Of models behind HTTP."""
    queue: QueueCollector
    query_reader: QueryReader


def get_services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)  # noqa: S101  (set by the application's lifespan)
    return found


ServicesDep = Annotated[Services, Depends(get_services)]

bearer = HTTPBearer(auto_error=False, description="An API key, where the server has any.")


def caller(request: Request) -> Caller:
    """The caller, authenticated by the guard."""
    found = request.state.caller
    assert isinstance(found, Caller)  # noqa: S101  (set by the guard for every protected path)
    return found


CallerDep = Annotated[Caller, Depends(caller)]


def needs(scope: Scope) -> Any:
    """What the credential of a caller must allow: every router or operation below ``/v1`` declares it."""
    return Security(_require, scopes=[scope])


def for_every_caller() -> Any:
    """The same for what any credential may do."""
    return Security(_require, scopes=[])


def _require(
    caller: CallerDep,
    scopes: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> None:
    """Raises Problem. The last parameter documents credential and scope in OpenAPI."""
    caller.require([Scope(scope) for scope in scopes.scopes])


def tenant(caller: CallerDep) -> str:
    """The tenant whose rows the request may see."""
    return caller.tenant


Tenant = Annotated[str, Depends(tenant)]


def session(services: ServicesDep, tenant_id: Tenant) -> Iterator[Session]:
    with services.for_tenant(tenant_id)() as session:
        yield session


# scope="function": closed before the answer is sent, so that no stream or slow client holds a connection
SessionDep = Annotated[Session, Depends(session, scope="function")]


def announce(services: Services, transaction: JobTransaction) -> None:
    """Publish the events, then send hints to workers. Call it after the commit and the response."""
    count_events(transaction)
    services.bus.publish(transaction.events)
    send_hints(transaction.ready)


def find_by_id(
    get: Callable[[Session, A, uuid.UUID], T | None], session: Session, tenant_id: A, row_id: str
) -> T | None:
    """The tenant's row with this id; None if there is none, or if the id is malformed."""
    try:
        return get(session, tenant_id, uuid.UUID(row_id))
    except ValueError:
        return None


def find_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """The tenant's job. Raises Problem (404) if there is none, or if the id is malformed."""
    job = find_by_id(jobs.get, session, tenant_id, job_id)
    if job is None:
        raise job_not_found(job_id)
    return job


def current_job(job_id: str, services: ServicesDep, tenant_id: Tenant) -> Job:
    """Releases its connection at once: threads waiting for connections held by waiting requests would deadlock."""
    with services.for_tenant(tenant_id)() as session:
        return find_job(session, tenant_id, job_id)


CurrentJob = Annotated[Job, Depends(current_job)]
