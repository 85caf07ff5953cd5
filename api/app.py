"""The HTTP application: ``uvicorn api.app:create_app --factory``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api import openapi, problems
from api.access.audit import Audit
from api.access.audit_log import AuditLog
from api.access.authenticate import Authenticator
from api.access.counters import Counters
from api.access.directory import Directory
from api.access.rates import Rates
from api.access.signers import Signers
from api.access.streams import StreamSlots
from api.dependencies import Services
from api.events import Hub
from api.guard import Guard
from api.health import HealthChecks
from api.meaning import QueryReader
from api.metered import Metered, is_unwatched
from api.routes import (
    audit,
    bulk,
    collections,
    erasures,
    exports,
    finetunes,
    health,
    hooks,
    jobs,
    keys,
    links,
    metrics,
    model_versions,
    openai,
    page,
    queues,
    readings,
    results,
    saved_searches,
    search,
    segments,
    server,
    speakers,
    templates,
    tenants,
    tokens,
    transcribe,
    transcripts,
    uploads,
    usage,
    vocabulary,
    voices,
    webhooks,
)
from api.uploads.slots import UploadSlots
from db.events.bus import Bus
from db.objects.storage import Storage
from db.secrets import Secrets
from db.session import make_sessions
from db.settings import Settings, get_settings
from db.telemetry.process import flush_traces
from db.telemetry.queue import QueueCollector
from db.tenancy import TenantSessions
from http_engines.endpoints import EndpointsFile

ROUTES = (
    *(health, metrics, server, bulk, jobs, uploads, results, transcripts, segments, speakers, voices),
    *(search, saved_searches, collections, links),
    *(readings, templates, vocabulary),
    *(exports, finetunes, model_versions),
    *(keys, tokens, tenants, usage, queues, audit, erasures, webhooks, hooks, transcribe, openai, page),
)

DESCRIPTION = "Long recordings become transcripts: drafts within seconds, finals as they are refined."


def open_services(settings: Settings, *, may_be_open: bool) -> Services:
    sessions, secrets = make_sessions(settings, name="api"), Secrets(settings)
    storage, bus = Storage(settings), Bus(settings)
    directory = Directory(sessions, Signers(secrets), settings)
    counters = Counters(settings.redis_url)
    endpoints = EndpointsFile(settings.endpoints)
    return Services(
        settings,
        TenantSessions(sessions),
        sessions,
        storage,
        bus,
        Hub(settings, sessions),
        UploadSlots(settings.max_uploads),
        HealthChecks(sessions, bus, storage, endpoints),
        directory,
        Authenticator(settings, directory, may_be_open=may_be_open),
        AuditLog(sessions),
        counters,
        Rates(counters),
        StreamSlots(counters),
        secrets,
        endpoints,
        QueueCollector(sessions),
        QueryReader(settings),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.directory.start()
    services.authenticator.explain()
    await services.hub.start()
    await services.audit.start()
    await services.streams.start()
    yield
    await services.streams.stop()
    await services.hub.stop()
    await services.directory.stop()
    await services.audit.stop()
    await services.counters.close()
    services.health.close()
    await to_thread.run_sync(flush_traces)


def create_app(settings: Settings | None = None, *, may_be_open: bool = True) -> FastAPI:
    """The application. ``may_be_open``: whether it may serve without any key, as only this machine reaches it."""
    settings = settings or get_settings()
    described: dict[str, Any] = {
        "title": "Longhand",
        "version": version("longhand"),
        "description": DESCRIPTION,
        "responses": problems.RESPONSES,
        "generate_unique_id_function": openapi.operation_id,
        # spans of requests; its logs would hold what errors say
        "telemetry": {"metrics": False, "logs": False, "operation_spans": False, "exclude": is_unwatched},
    }
    if settings.docs:
        # serves the scripts of /docs itself, so that it works without the Internet
        app = FastAPIOffline(**described, lifespan=_lifespan)
    else:
        app = FastAPI(**described, lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    services = app.state.services = open_services(settings, may_be_open=may_be_open)
    problems.install(app)
    app.add_middleware(
        Guard,
        settings=settings,
        authenticator=services.authenticator,
        rates=services.rates,
        limits=services.directory.limits,
    )
    # around the guard, so that it sees what is refused too
    app.add_middleware(Audit, log=services.audit)
    app.add_middleware(Metered)
    for module in ROUTES:
        app.include_router(module.router)
    openapi.complete(app)
    return app
