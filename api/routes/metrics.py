"""``/metrics``, for Prometheus."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.access.scraper import require_scraper
from api.dependencies import ServicesDep
from db.telemetry.exposition import PATH, Together, render

router = APIRouter(tags=["health"])


@router.get(PATH, include_in_schema=False)
async def show_metrics(request: Request, services: ServicesDep) -> Response:
    """Of this process, and of the queue."""
    await require_scraper(request, services.settings, services.authenticator)
    # in a thread, as the queue is asked of Postgres
    body, content_type = await to_thread.run_sync(
        render, Together(services.queue), request.headers.get("accept", "")
    )
    return Response(body, media_type=content_type)
