"""Who may read ``/metrics``: they show what all tenants do together."""

from __future__ import annotations

from starlette.requests import Request

from api.access.authenticate import Authenticator
from api.problems import Problem
from db.models import Scope
from db.settings import Settings
from db.telemetry.exposition import is_token


async def require_scraper(request: Request, settings: Settings, authenticator: Authenticator) -> None:
    """Raises Problem unless the request has the token of the metrics, or a key of who runs the server."""
    authorization = request.headers.get("authorization")
    if is_token(settings, authorization):
        return
    address = request.client.host if request.client else ""
    caller = await authenticator.caller(authorization, address)
    caller.require([Scope.ADMIN])
    if not caller.operator:
        raise Problem(
            403,
            "operator_only",
            "Operator only",
            "Metrics are for who runs the server: use LONGHAND_METRICS_TOKEN, or a key of LONGHAND_API_KEYS.",
        )
