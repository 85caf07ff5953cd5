"""Liveness and readiness."""

from __future__ import annotations

from concurrent.futures import wait

from fastapi import APIRouter, Response

from api.dependencies import ServicesDep

router = APIRouter(tags=["health"])

READY_SECONDS = 2.0
"""Servers that have not answered by then count as down."""


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A server below does not answer."}})
def readyz(services: ServicesDep, response: Response) -> dict[str, object]:
    """Postgres, Redis and S3 answer; 503 with the names of those that do not.

    Where there are models behind HTTP, `models` says how their hosts did when last looked at. That is no reason
    for 503: jobs go on without them.
    """
    running = services.health.check()
    wait(running.values(), timeout=READY_SECONDS)
    results = {
        name: "ok" if answer.done() and answer.exception() is None else "down" for name, answer in running.items()
    }
    ready = all(result == "ok" for result in results.values())
    if not ready:
        response.status_code = 503
    models = services.health.models()
    answer: dict[str, object] = {"status": "ok" if ready else "unavailable", "checks": results}
    return answer | ({"models": models} if models else {})
