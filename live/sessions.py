"""The live sessions of one process: opening them, going on with them, and how many there may be."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from anyio import to_thread
from opentelemetry import trace
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.access.caller import Caller
from api.options import check_options
from api.problems import Problem
from api.uploads.limits import check_disk, check_queue
from api.uploads.unfetched import describe
from db import live
from db.access import audit, quotas, redaction
from db.models import Job, Scope
from live.messages import LiveOptions
from live.recording import patience
from live.services import Services
from live.session import LiveSession, SessionOptions
from live.stages import StageError
from speech.engines import SAMPLE_RATE
from speech.text.redaction.kinds import PersonalData
from tasks import flow

logger = logging.getLogger(__name__)

RETRY_AFTER = 10

Place = tuple[str, str]
"""Tenant and name of a session."""


class LiveSessions:
    """For one event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions: dict[Place, LiveSession] = {}
        self._opening: set[Place] = set()
        """Of sessions that are about to be there."""
        self._turns: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()
        """Openings of one place follow each other. A lock is there for as long as somebody holds or awaits it."""

    async def open(
        self,
        caller: Caller,
        flow_id: str | None,
        after: int | None,
        options: LiveOptions,
        *,
        domain: str | None = None,
        cuts_utterances: bool = True,
        ends_in_silence: bool = True,
    ) -> LiveSession:
        """A new session, or with ``after`` the one of this name. Raises Problem or QuotaExceeded."""
        if caller.job_id is not None:
            raise Problem(403, "token_of_one_job", "Token of one job", "This token opens one job, and no session.")
        caller.require([Scope.LIVE])
        await self._count(caller.tenant)
        flow_id = flow_id or uuid.uuid4().hex
        trace.get_current_span().set_attribute("flow_id", flow_id)
        place = (caller.tenant, flow_id)
        turn = self._turns.setdefault(place, asyncio.Lock())
        async with turn:
            found = self._sessions.get(place)
            if found is not None and not found.over.is_set():
                if after is None:
                    raise _in_use(flow_id)
                return found
            make = self._create if after is None else self._take_up
            with self._room_for(place):
                position, kinds, language = await to_thread.run_sync(
                    make, caller, flow_id, options, limiter=self._services.threads
                )
                wanted = SessionOptions(
                    flow_id,
                    caller.tenant,
                    language=language,
                    domain=domain,
                    hotwords=tuple(options.hotwords),
                    redact=kinds,
                    cuts_utterances=cuts_utterances,
                    ends_in_silence=ends_in_silence,
                )
                return await self._begin(wanted, position)

    async def _begin(self, options: SessionOptions, position: live.Position) -> LiveSession:
        """Raises Problem."""
        session = LiveSession(self._services, options, position, self._forget)
        self._sessions[options.tenant, options.flow_id] = session
        logger.info("flow %s: job %s: session open", options.flow_id, position.job_id)
        try:
            await session.start()
        except BaseException as error:
            self._forget(session)
            await session.close()
            if isinstance(error, StageError):
                raise Problem(503, "stage_unavailable", "Stage unavailable", str(error)) from error
            raise
        return session

    async def park(self) -> None:
        """Write what came of all sessions, and leave them to other processes."""
        message = "The server restarts; connect again to go on."
        await asyncio.gather(*(each.fail("server_restart", message) for each in [*self._sessions.values()]))

    def _forget(self, session: LiveSession) -> None:
        place = (session.options.tenant, session.options.flow_id)
        if self._sessions.get(place) is session:
            del self._sessions[place]

    async def _count(self, tenant: str) -> None:
        """An opening is a request, of which a tenant may send so many. Raises Problem."""
        limit = self._services.directory.limits(tenant).requests_per_minute
        if limit is not None:
            await self._services.rates.admit(tenant, limit, upload=True)

    @contextmanager
    def _room_for(self, place: Place) -> Iterator[None]:
        """A place that nobody else gets meanwhile. Raises Problem."""
        settings, tenant = self._services.settings, place[0]
        held = Counter(tenant for tenant, _ in self._sessions.keys() | self._opening)
        share = settings.tenant_live_sessions(shared=self._services.directory.shared)
        if held.total() >= settings.live_sessions or held[tenant] >= share:
            raise Problem(
                429,
                "live_sessions_full",
                "Live sessions full",
                "As many live sessions are open as there may be; come back when one has ended.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        self._opening.add(place)
        try:
            yield
        finally:
            self._opening.discard(place)

    def _create(
        self, caller: Caller, flow_id: str, options: LiveOptions
    ) -> tuple[live.Position, frozenset[PersonalData], str | None]:
        services, settings, tenant = self._services, self._services.settings, caller.tenant
        check_options(services.endpoints, caller, options)
        check_disk(settings)
        with services.across_tenants() as session:
            check_queue(session, settings, tenant, shared=services.directory.shared)
        job = describe(settings, caller, options, None)
        job.filename = flow_id
        try:
            with services.for_tenant(tenant).begin() as session:
                quotas.admit_upload(session, settings, tenant, 0)
                transaction, position = live.create(session, job, flow_id, patience(services))
                quotas.check_audio(session, settings, job, 0.0)
                job.duration, job.sample_rate, job.channels = 0.0, SAMPLE_RATE, 1
                flow.start_job(transaction, {"duration": None, "sample_rate": SAMPLE_RATE, "channels": 1})
                audit.note(session, tenant, caller.actor, "open live session", job.id)
                kinds = self._redacted(session, job)
        except IntegrityError as error:
            raise _in_use(flow_id) from error
        services.announce(transaction)
        return position, kinds, options.language

    def _take_up(
        self, caller: Caller, flow_id: str, options: LiveOptions
    ) -> tuple[live.Position, frozenset[PersonalData], str | None]:
        with self._services.for_tenant(caller.tenant).begin() as session:
            found = live.find(session, caller.tenant, flow_id)
            if found is None:
                raise _unknown(flow_id)
            try:
                position = live.take_up(session, found.job_id, patience(self._services))
            except live.SessionOver as error:
                raise _unknown(flow_id) from error
            job = session.get_one(Job, found.job_id)
            return position, self._redacted(session, job), job.options.get("language")

    def _redacted(self, session: Session, job: Job) -> frozenset[PersonalData]:
        wanted = redaction.of_job(session, job.tenant, job.options, self._services.settings)
        return frozenset(map(PersonalData, wanted.kinds))


def _in_use(flow_id: str) -> Problem:
    detail = f"There is a session {flow_id!r}; choose another `flowId`, or go on with it by `after`."
    return Problem(409, "flow_in_use", "Flow in use", detail)


def _unknown(flow_id: str) -> Problem:
    detail = f"There is no session {flow_id!r} to go on with: it has ended, and its job has what was said."
    return Problem(404, "flow_unknown", "Flow unknown", detail)
