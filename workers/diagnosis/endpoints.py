"""Models behind HTTP: the operators' file, and whether its hosts answer."""

from __future__ import annotations

from collections.abc import Iterator

from db.settings import Settings
from http_engines.endpoints import EndpointsFile, RemoteModel
from http_engines.errors import InvalidEndpoints
from http_engines.look import State, survey
from speech.models.names import HTTP
from workers.diagnosis.finding import Finding, broken, ok, warning


def check_endpoints(settings: Settings) -> Iterator[Finding]:
    asked_for = [
        name
        for name in ("draft_engine", "refine_engine")
        if HTTP in (engine.strip() for engine in getattr(settings, name).split(","))
    ]
    if settings.endpoints is None:
        if asked_for:
            advice = "Write a file of models (docs/models.md), and let LONGHAND_ENDPOINTS name it."
            yield broken("endpoints", "an engine is `http`, and LONGHAND_ENDPOINTS is not set", advice)
        return
    try:
        endpoints = EndpointsFile(settings.endpoints).read()
    except InvalidEndpoints as error:
        yield broken("endpoints", str(error), "Correct the file; docs/models.md has what it takes.")
        return
    for name in asked_for:
        if not endpoints.serving(name.removesuffix("_engine")):
            advice = f"Add one with `serves`, or take `http` out of LONGHAND_{name.upper()}."
            yield broken("endpoints", f"no model in {settings.endpoints} serves as {name}", advice)
    seen = survey(endpoints)
    for server in endpoints.servers:
        price = server.price_per_minute if isinstance(server, RemoteModel) else None
        costs = "" if price is None else f", {price:g} a minute"
        for host, each in seen[server.name].items():
            found = f"{server.name} at {host}: {each.found}{costs}"
            match each.state:
                case State.OK:
                    yield ok("endpoints", found)
                case State.AWAY:
                    yield warning("endpoints", found, "Start it. Meanwhile others serve, or drafts stand.")
                case State.WRONG:
                    yield warning("endpoints", found, "Correct `model`, `hosts` or the key in the file.")
