"""What `/v1/server` tells its callers."""

from __future__ import annotations

import httpx
import pytest

from db.settings import Settings


def test_an_open_server(client: httpx.Client) -> None:
    told = client.get("/v1/server").json()
    assert (told["tenant"], told["key_needed"], told["flower_url"]) == ("default", False, None)
    assert told["live_url"] is None
    assert (told["translates"], told["semantic_search"]) == (True, False)
    assert {"admin", "jobs:read"} <= set(told["scopes"])


class TestWithKeys:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        changes = {"api_keys": {"k1": "one"}, "flower_url": "https://flower.example", "training_tenants": ["one"]}
        changes |= {"refine_engine": "http, whisper", "refine_model": "large-v3-turbo"}
        return settings.model_copy(update=changes)

    def test_callers_are_told_what_they_may(self, client: httpx.Client) -> None:
        assert client.get("/v1/server").status_code == 401
        operator = {"Authorization": "Bearer k1"}
        told = client.get("/v1/server", headers=operator).json()
        known = ("one", True, True, True)
        assert (told["tenant"], told["operator"], told["key_needed"], told["training"]) == known
        assert told["flower_url"] == "https://flower.example"
        assert not told["translates"], "it was tuned for speed"
        wanted = {"name": "reader", "scopes": ["jobs:read"]}
        key = client.post("/v1/keys", json=wanted, headers=operator).json()["key"]
        told = client.get("/v1/server", headers={"Authorization": f"Bearer {key}"}).json()
        assert told["actor"].startswith("reader")
        assert (told["scopes"], told["operator"], told["flower_url"]) == (["jobs:read"], False, None)
