"""The page in the distribution's Chromium, on a real server.

Steps of jobs run when a test says so, with engines that say what they are told: these tests are about the page.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from api.app import create_app
from cli.stack.process import HOST, free_port
from db.models import JobStatus
from db.session import Sessions, make_sessions
from db.settings import ApiKey, Settings
from tasks.handler import Handler
from tasks.steps import fetch, purge
from tests.api.conftest import serving
from tests.browser import WAIT_MS, chromium
from tests.conftest import Servers, fresh
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, run_until_done

OPERATOR = "operator-of-the-page"
SAID = "We met on Monday."
ALL_SCOPES = ("jobs:read", "jobs:write", "voices", "training", "live", "admin")
WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}


@dataclass
class Site:
    """A server, and what its workers would do."""

    settings: Settings
    http: httpx.Client
    sessions: Sessions
    runtime: FakeRuntime
    tenants: list[str] = field(default_factory=list)
    """Of the test that runs: what another left behind is not waited for."""

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def key(self, tenant: str, *scopes: str) -> str:
        """A new key of a tenant, with all scopes if none is named."""
        wanted = {"name": "The page", "tenant": tenant, "scopes": scopes or ALL_SCOPES}
        answer = self.http.post("/v1/keys", json=wanted, headers={"Authorization": f"Bearer {OPERATOR}"})
        return str(answer.raise_for_status().json()["key"])

    def work(self, *handlers: Handler) -> None:
        """Do all that is to be done, or what is for these."""
        run_until_done(self.runtime, handlers or (fetch.handler, *HANDLERS, purge.handler), self.tenants)

    def jobs(self, key: str) -> list[dict[str, Any]]:
        answer = self.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
        return list(answer.raise_for_status().json()["data"])


@pytest.fixture(scope="package")
def site(servers: Servers, template: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests of the page; each has a tenant of its own."""
    with fresh(servers, template, tmp_path_factory.mktemp("page")) as settings:
        settings = settings.model_copy(
            update={
                "api_keys": {OPERATOR: ApiKey(tenant="operator")},
                "training_tenants": ["*"],
                "diarize": False,
                "semantic_search": True,
                "live_url": f"ws://{HOST}:{free_port()}",
                # what was recorded is compared sample by sample
                "enable_compress": False,
            }
        )
        sessions = make_sessions(settings, name="test")
        with serving(create_app(settings), settings) as http:
            yield Site(settings, http, sessions, FakeRuntime(settings, lambda _: SAID, lambda _: SAID))
        sessions.kw["bind"].dispose()


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@dataclass
class Visitor:
    """Somebody in front of the page, and what went on there."""

    site: Site
    context: BrowserContext
    page: Page
    tenant: str
    key: str
    complaints: list[str] = field(default_factory=list)
    """Of the console: errors, and what the policy forbids."""
    asked: list[str] = field(default_factory=list)
    """The URLs of all requests."""

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.site.url + path)
        return self.page


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Visit]:
    """Makes visitors: each a new tenant, signed in unless said otherwise, in a browser context with these options.

    At the end of the test none of them may have seen an error in the console that it does not take for granted.
    """
    visitors: list[tuple[Visitor, tuple[str, ...]]] = []

    def make(*, signed_in: bool = True, despite: tuple[str, ...] = (), **options: Any) -> Visitor:
        tenant = f"tenant {uuid.uuid4().hex[:8]}"
        site.tenants.append(tenant)
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 800}, **options})
        visitor = Visitor(site, context, context.new_page(), tenant, site.key(tenant))
        context.set_default_timeout(WAIT_MS)
        if signed_in:
            keep = f"sessionStorage.setItem('longhand.key', {json.dumps(visitor.key)})"
            context.add_init_script(f"if (location.origin === {json.dumps(site.url)}) {keep}")
        watch(visitor)
        visitors.append((visitor, despite))
        return visitor

    expect.set_options(timeout=WAIT_MS)
    site.tenants.clear()
    yield make
    for visitor, despite in visitors:
        visitor.context.close()
        assert not [each for each in visitor.complaints if not any(part in each for part in despite)]
        assert not [url for url in visitor.asked if visitor.key in url], "a key is in no URL"


def watch(visitor: Visitor) -> None:
    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visitor.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    visitor.context.on("console", hear)
    visitor.context.on("weberror", lambda error: visitor.complaints.append(str(error.error)))
    visitor.context.on("request", lambda request: visitor.asked.append(request.url))


def grave_faults(page: Page) -> list[str]:
    """What axe finds that is serious or critical. Skips where axe-core is not installed."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci --prefix web")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for fault in found["violations"]
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


def finished(site: Site, key: str, count: int = 1) -> bool:
    return (
        list(itertools.islice((job["status"] for job in site.jobs(key)), count)) == [JobStatus.COMPLETED] * count
    )
