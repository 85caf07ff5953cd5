"""The application of live sessions: ``python -m live``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import to_thread
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from api.access.authenticate import Authenticator
from api.access.counters import Counters
from api.access.directory import Directory
from api.access.rates import Rates
from api.access.scraper import require_scraper
from api.access.signers import Signers
from api.guard import check_host
from api.problems import Problem
from db.events.bus import Bus
from db.objects.storage import Storage
from db.secrets import Secrets
from db.session import make_sessions
from db.settings import Settings
from db.telemetry import tracing
from db.telemetry.exposition import PATH, render
from db.telemetry.process import flush_traces
from db.tenancy import TenantSessions
from http_engines.endpoints import EndpointsFile
from live import messages
from live.assembly import load_stages
from live.connection import Connection
from live.native import NativeStream
from live.realtime import RealtimeStream
from live.services import Services
from live.sessions import LiveSessions
from live.stages import Stages
from speech.audio.isolated.client import IsolatedDecoder, Limits

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    may_be_open: bool = True,
    load: Callable[[Settings], Stages] = load_stages,
) -> Starlette:
    """``may_be_open``: whether it may serve without any key, as only this machine reaches it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sessions = make_sessions(settings, name="live")
        directory = Directory(sessions, Signers(Secrets(settings)), settings)
        await directory.start()
        counters = Counters(settings.redis_url)
        limits = Limits(memory_bytes=settings.decode_memory_bytes, cpu_seconds=settings.decode_cpu_seconds)
        services = app.state.services = Services(
            settings,
            TenantSessions(sessions),
            sessions,
            Storage(settings),
            Bus(settings),
            directory,
            Authenticator(settings, directory, may_be_open=may_be_open),
            Rates(counters),
            EndpointsFile(settings.endpoints),
            await to_thread.run_sync(load, settings),
            IsolatedDecoder(limits),
        )
        services.authenticator.explain()
        await to_thread.run_sync(services.decoder.start)
        app.state.sessions = LiveSessions(services)
        logger.info("ready for live sessions")
        yield
        await app.state.sessions.park()
        await services.stages.close()
        services.decoder.close()
        await directory.stop()
        await counters.close()
        sessions.kw["bind"].dispose()
        await to_thread.run_sync(flush_traces)

    async def stream(websocket: WebSocket) -> None:
        state = websocket.app.state
        with tracing.tracer.start_as_current_span("WS /ws/stream", kind=SpanKind.SERVER):
            await NativeStream(state.services, state.sessions, Connection(state.services, websocket)).run()

    async def realtime(websocket: WebSocket) -> None:
        state = websocket.app.state
        with tracing.tracer.start_as_current_span("WS /v1/realtime", kind=SpanKind.SERVER):
            await RealtimeStream(state.services, state.sessions, Connection(state.services, websocket)).run()

    return Starlette(
        routes=[
            WebSocketRoute("/ws/stream", stream),
            WebSocketRoute("/v1/realtime", realtime),
            Route("/ws/stream/schemas", _schemas),
            Route(PATH, _metrics),
            Route("/healthz", _health),
            Route("/readyz", _health),
        ],
        lifespan=lifespan,
    )


async def _schemas(request: Request) -> Response:
    return JSONResponse(messages.schemas())


async def _metrics(request: Request) -> Response:
    services: Services = request.app.state.services
    try:
        if services.authenticator.is_open:
            check_host(request.headers.get("host", ""))
        await require_scraper(request, services.settings, services.authenticator)
    except Problem as problem:
        return problem.response()
    body, content_type = render(REGISTRY, request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})
