"""``longhand webhooks`` against a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from db.models import DeliveryState
from db.settings import Settings
from tasks.runtime import Runtime
from tasks.webhooks import deliver
from tests.api.conftest import serving
from tests.tasks.fetch.server import serving as receiving
from tests.tasks.fetch.server import whole
from tests.tasks.webhooks.receivers import deliveries_of, received
from tests.waiting import until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings.model_validate(settings.model_dump() | {"webhook_private": ["127.0.0.0/8"]})


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings), settings) as opened:
        yield opened


def run(client: httpx.Client, *arguments: str, code: int = 0) -> str:
    given = ["webhooks", *arguments, "--url", str(client.base_url)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == code, done.output
    return done.output.strip()


def test_a_webhook_from_its_making_to_its_end(client: httpx.Client, settings: Settings) -> None:
    runtime = Runtime(settings)
    with receiving() as web:
        web.routes["/[red]hook"] = whole(b"")
        secret = run(client, "add", f"{web.url}/[red]hook", "--events", "job.completed, job.failed")
        (row,) = client.get("/v1/webhooks").json()["data"]
        listed = run(client, "list")
        assert f"{web.url}/[red]hook" in listed
        assert "job.completed job.failed" in listed
        assert secret not in listed

        def work() -> None:
            until(lambda: deliver.run(runtime))

        worker = threading.Thread(target=work)
        worker.start()
        assert "delivered" in run(client, "test", row["id"])
        worker.join()
        assert received(web, secret)[0]["type"] == "webhook.test"
        (delivery,) = deliveries_of(runtime.sessions)
        assert str(delivery.id) in run(client, "deliveries", row["id"])
        assert "waiting" in run(client, "redeliver", str(delivery.id))
        deliver.run(runtime)
        assert deliveries_of(runtime.sessions)[0].state == DeliveryState.DELIVERED
    assert run(client, "rotate", row["id"]).startswith("whsec_")
    assert run(client, "secret").startswith("whsec_")
    assert "disabled_reason: request" in run(client, "change", row["id"], "--disable")
    assert "disabled (request)" in run(client, "list")
    assert "disabled: True" in run(client, "show", row["id"])
    assert "webhook_disabled" in run(client, "test", row["id"], code=1)
    run(client, "delete", row["id"])
    assert "webhook_not_found" in run(client, "show", row["id"], code=1)
    assert "Name a webhook" in run(client, "deliveries", code=2)
