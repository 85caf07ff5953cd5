"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Response
from sqlalchemy import text

from api.dependencies import Services, ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(services: ServicesDep, response: Response) -> dict[str, object]:
    """Postgres, Redis and S3 answer; 503 with the names of those that do not."""
    checks = {
        "postgres": lambda: _ping_postgres(services),
        "redis": services.bus.ping,
        "s3": services.storage.ping,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        pending = {name: pool.submit(check) for name, check in checks.items()}
        results = {name: "ok" if future.exception() is None else "down" for name, future in pending.items()}
    ready = all(result == "ok" for result in results.values())
    if not ready:
        response.status_code = 503
    return {"status": "ok" if ready else "unavailable", "checks": results}


def _ping_postgres(services: Services) -> None:
    with services.sessions() as session:
        session.execute(text("SELECT 1"))
