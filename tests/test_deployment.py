"""docker-compose.yml and the Dockerfiles, as far as they can be checked without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.stack.stack import PARTS, PRODUCTS
from db.settings import Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_every_part_of_the_product_has_a_service_with_the_same_entry_point(compose: dict[str, Any]) -> None:
    commands = [service.get("command", []) for service in compose["services"].values()]
    started = [command[command.index("--only") + 1] for command in commands if "--only" in command]
    assert set(started) == set(PRODUCTS)
    assert set(started) <= set(PARTS)


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {f"LONGHAND_{name.upper()}" for name in Settings.model_fields}
    for name, service in compose["services"].items():
        used = {key for key in service.get("environment", {}) if key.startswith("LONGHAND_")}
        assert used <= known, name
    for file in ("docker/Dockerfile", "docker/Dockerfile.cuda", ".env.example"):
        assert set(re.findall(r"\b(LONGHAND_[A-Z_]+)=", (ROOT / file).read_text())) <= known, file


def test_servers_are_watched_limited_and_kept(compose: dict[str, Any]) -> None:
    for name in ("postgres", "redis", "s3", "api", "flower"):
        assert "healthcheck" in compose["services"][name], name
    for name, service in compose["services"].items():
        if name not in ("prepare", "models"):
            assert service["deploy"]["resources"]["limits"]["memory"], name
            assert service["restart"] == "unless-stopped", name
    kept = {v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", [])}
    assert kept == set(compose["volumes"])


def test_images_are_pinned_and_ports_stay_on_this_machine(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":[v\d]", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_only_the_gpu_worker_reserves_a_gpu(compose: dict[str, Any]) -> None:
    services = compose["services"].items()
    resources = {name: service.get("deploy", {}).get("resources", {}) for name, service in services}
    assert [name for name, held in resources.items() if "reservations" in held] == ["worker-gpu"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_hold_every_package_and_no_root_process(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    for package in ("api", "cli", "db", "migrations", "speech", "tasks", "workers"):
        assert f"COPY {package} {package}" in text
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["longhand"]' in text


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"`LONGHAND_{name.upper()}`" not in text]
    assert missing == []
