"""The HTTP application: ``uvicorn api.app:create_app --factory``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api import problems
from api.dependencies import Services
from api.events import Hub
from api.limits import HeaderLimit
from api.routes import exports, finetunes, health, jobs, model_versions, results, segments, voices
from db.bus import Bus
from db.session import make_sessions
from db.settings import Settings, get_settings
from db.storage import Storage

DESCRIPTION = "Long recordings become transcripts: drafts within seconds, finals as they are refined."


def open_services(settings: Settings) -> Services:
    sessions = make_sessions(settings, name="api")
    return Services(
        settings,
        sessions,
        Storage(settings),
        Bus(settings),
        Hub(settings, sessions),
        CapacityLimiter(settings.max_uploads),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.hub.start()
    yield
    await services.hub.stop()


def create_app(settings: Settings | None = None) -> FastAPI:
    # its pages bring their scripts along: /docs works without the Internet
    app = FastAPIOffline(
        title="Longhand", version=version("longhand"), description=DESCRIPTION, lifespan=_lifespan
    )
    app.state.services = open_services(settings or get_settings())
    problems.install(app)
    app.add_middleware(HeaderLimit)
    for module in (health, jobs, results, segments, voices, exports, finetunes, model_versions):
        app.include_router(module.router)
    return app
