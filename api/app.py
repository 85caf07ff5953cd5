"""The HTTP application: ``uvicorn api.app:create_app --factory``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api import problems
from api.access.counters import Counters
from api.access.rates import Rates
from api.access.streams import StreamSlots
from api.access.tenant_rows import TenantRows
from api.dependencies import Services
from api.events import Hub
from api.guard import Guard
from api.health import HealthChecks
from api.routes import exports, finetunes, health, jobs, model_versions, results, segments, tenants, usage, voices
from api.uploads.slots import UploadSlots
from db.events.bus import Bus
from db.objects.storage import Storage
from db.session import make_sessions
from db.settings import Settings, get_settings

DESCRIPTION = "Long recordings become transcripts: drafts within seconds, finals as they are refined."


def open_services(settings: Settings) -> Services:
    sessions = make_sessions(settings, name="api")
    storage, bus = Storage(settings), Bus(settings)
    counters = Counters(settings.redis_url)
    return Services(
        settings,
        sessions,
        storage,
        bus,
        Hub(settings, sessions),
        UploadSlots(settings.max_uploads),
        HealthChecks(sessions, bus, storage),
        counters,
        Rates(counters),
        StreamSlots(counters),
        TenantRows(sessions),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.hub.start()
    await services.streams.start()
    await services.tenant_rows.start()
    yield
    await services.tenant_rows.stop()
    await services.streams.stop()
    await services.hub.stop()
    await services.counters.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or get_settings()
    described: dict[str, Any] = {
        "title": "Longhand",
        "version": version("longhand"),
        "description": DESCRIPTION,
        "responses": problems.RESPONSES,
    }
    if settings.docs:
        # serves the scripts of /docs itself, so that it works without the Internet
        app = FastAPIOffline(**described, lifespan=_lifespan)
    else:
        app = FastAPI(**described, lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = open_services(settings)
    problems.install(app)
    app.add_middleware(Guard, settings=settings, services=app.state.services)
    for module in (health, jobs, results, segments, voices, exports, finetunes, model_versions, tenants, usage):
        app.include_router(module.router)
    return app
