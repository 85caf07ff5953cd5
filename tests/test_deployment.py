"""docker-compose.yml and the Dockerfiles, as far as they can be checked without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import pytest
import yaml

from cli.stack.stack import PARTS, PRODUCTS
from db.exposure import Exposed, check_flower, check_stage
from db.settings import Settings
from http_engines.endpoints import parse

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
    workers = [name for name in compose["services"] if name.startswith("worker-")]
    for name in ("postgres", "redis", "s3", "api", "live", "flower", *workers):
        assert "healthcheck" in compose["services"][name], name
    for name in workers:
        # the file that its watchdog touches
        service = compose["services"][name]
        assert f"/var/lib/longhand/{service['command'][-1]}.alive" in service["healthcheck"]["test"][1]
    for name, service in compose["services"].items():
        if name not in ("prepare", "models"):
            assert service["deploy"]["resources"]["limits"]["memory"], name
            assert service["restart"] == "unless-stopped", name
    kept = {v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", [])}
    assert kept == set(compose["volumes"])


def test_profiles_say_who_refines(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    refining = {
        name for name, service in compose["services"].items() if service.get("command", [])[-1:] == ["gpu"]
    }
    assert {name: profiles[name] for name in refining} == {"worker-gpu": ["gpu"], "worker-gpu-cpu": ["cpu"]}
    (given,) = re.findall(r"^COMPOSE_PROFILES=(\w+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert given in {profile for each in profiles.values() for profile in each}


def test_prometheus_asks_every_process_that_tells(compose: dict[str, Any]) -> None:
    asked = yaml.safe_load((ROOT / "docker" / "observe" / "prometheus.yml").read_text())["scrape_configs"]
    places = [place for job in asked for place in job["dns_sd_configs"]]
    names = {name for place in places for name in place["names"]}
    telling = {
        name: service["environment"].get("LONGHAND_METRICS_PORT")
        for name, service in compose["services"].items()
        if "LONGHAND_METRICS_TOKEN" in service.get("environment", {})
    }
    assert set(telling) == names
    for place in places:
        assert {telling[name] for name in place["names"]} == {"9101" if place["port"] == 9101 else None}
    for service in ("prometheus", "grafana"):
        assert compose["services"][service]["profiles"] == ["observe"]
        for config in compose["services"][service]["configs"]:
            assert config["source"] in compose["configs"]


def test_images_are_pinned_and_ports_stay_on_this_machine(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":[v\d]", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


MODELS = {"qwen3-asr-large", "qwen3-asr-small"}
"""Of the profile `qwen3`: servers of others, which Longhand asks."""


def test_what_computes_on_gpus_reserves_them(compose: dict[str, Any]) -> None:
    services = compose["services"].items()
    resources = {name: service.get("deploy", {}).get("resources", {}) for name, service in services}
    assert {name for name, held in resources.items() if "reservations" in held} == {"worker-gpu", *MODELS}


def test_models_behind_http_are_there_for_who_asks_for_them(compose: dict[str, Any]) -> None:
    endpoints = parse((ROOT / "docker" / "endpoints.example.toml").read_text())
    hosts = {urlsplit(host).hostname for model in endpoints.model for host in model.hosts}
    assert hosts == MODELS
    for model in endpoints.model:
        (host,) = model.hosts
        service = compose["services"][urlsplit(host).hostname]
        assert service["profiles"] == ["qwen3"]
        assert f"--model={model.model}" in service["command"]
        assert any(argument.startswith("--max-model-len=") for argument in service["command"])
        assert "healthcheck" in service
        assert "ports" not in service
        # what forces a language needs the template that renders it
        assert model.forces_language
        assert "--chat-template=/etc/qwen3-asr.jinja" in service["command"]
    for asking in ("api", "worker-cpu", "worker-gpu", "worker-gpu-cpu"):
        service = compose["services"][asking]
        assert {"source": "endpoints", "target": "/etc/longhand/endpoints.toml"} in service["configs"], asking
        assert "LONGHAND_ENDPOINTS" in service["environment"], asking
    for name, config in compose["configs"].items():
        if name == "metrics-token":
            assert config == {"environment": "LONGHAND_METRICS_TOKEN"}
            continue
        assert (ROOT / re.sub(r"\$\{\w+:-(.*)\}", r"\1", config["file"])).is_file()
    assert not parse((ROOT / "docker" / "endpoints.none.toml").read_text()).model


@pytest.mark.parametrize("answer", ["", "language German<asr_text>"])
def test_the_template_of_qwen3_asr(answer: str) -> None:
    """Context, audio, and the beginning of an answer; nothing behind that, so that the model goes on from it."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Ada, Grace"},
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "is dropped"}]},
    ]
    if answer:
        messages.append({"role": "assistant", "content": answer})
    environment = jinja2.Environment()  # noqa: S701  (a prompt is no page)
    template = environment.from_string((ROOT / "docker" / "qwen3-asr.jinja").read_text())
    rendered = template.render(messages=messages, add_generation_prompt=not answer)
    audio = "<|audio_start|><|audio_pad|><|audio_end|>"
    head = f"<|im_start|>system\nAda, Grace<|im_end|>\n<|im_start|>user\n{audio}<|im_end|>\n"
    assert rendered == f"{head}<|im_start|>assistant\n{answer}"


CAPABILITIES = {
    # its entry point takes the data folder for its own user, and becomes that user
    "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
    # its volume belongs to root
    "s3": ["DAC_OVERRIDE"],
}

WORKER = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_KEY", "LONGHAND_METRICS_TOKEN"}
SECRETS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "redis": {"REDIS_PASSWORD"},
    "s3": {"S3_SECRET_KEY"},
    "prepare": {"POSTGRES_PASSWORD", "S3_SECRET_KEY"},
    "models": set(),
    "api": {*WORKER, "LONGHAND_API_KEYS"},
    "live": {*WORKER, "LONGHAND_API_KEYS"},
    "live-asr": set(),
    "worker-cpu": WORKER,
    "worker-gpu": WORKER,
    "worker-gpu-cpu": WORKER,
    "worker-io": WORKER,
    "beat": {"REDIS_PASSWORD"},
    "flower": {"REDIS_PASSWORD", "FLOWER_PASSWORD"},
    # the token comes by a file
    "prometheus": set(),
    "grafana": {"GRAFANA_PASSWORD"},
    **{name: set() for name in MODELS},
}
OPTIONAL_SECRETS = {
    "LONGHAND_SECRET_KEY": {"api", "live", "worker-cpu", "worker-gpu", "worker-gpu-cpu", "worker-io"}
}
"""What may stay empty, and the services that get it."""

VARIABLE = re.compile(r"(?<!\$)\$\{?([A-Z0-9_]+)(:\?)?")
"""What compose fills in, and whether it refuses to go on without. ``$$`` is for the shell in the container."""


def test_every_service_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == CAPABILITIES.get(name, []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Compose writes into a container what a config has of the environment, and cannot where that is read-only
        sources = [compose["configs"][each["source"]] for each in service.get("configs", [])]
        assert service["read_only"] is not any("environment" in source for source in sources), name
        opened = {"privileged", "network_mode", "pid", "ipc", "userns_mode", "devices", "env_file", "secrets"}
        assert not opened & set(service), name
        # volumes have names: no folder of the machine is inside, nor its Docker socket
        assert all(re.match(r"[a-z]", volume) for volume in service.get("volumes", [])), name
        assert all(re.search(r":.*\bsize=\d+[mg]\b", mount) for mount in service["tmpfs"]), name


def test_every_process_has_the_secrets_it_needs_and_no_others(compose: dict[str, Any]) -> None:
    known = set().union(*SECRETS.values())
    for name, service in compose["services"].items():
        found = VARIABLE.findall("\n".join(map(str, service.get("environment", {}).values())))
        assert {variable for variable, _ in found} & known == SECRETS[name], name
        assert all(required for variable, required in found if variable in known), name
        optional = {variable for variable, _ in found} & set(OPTIONAL_SECRETS)
        assert optional == {secret for secret, services in OPTIONAL_SECRETS.items() if name in services}, name
    assert set(SECRETS) == set(compose["services"])
    given = re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert known | set(OPTIONAL_SECRETS) <= set(given)


def test_no_command_holds_a_secret(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for part in ("command", "entrypoint", "healthcheck", "labels"):
            assert not VARIABLE.findall(str(service.get(part, ""))), (name, part)


def test_what_listens_on_every_address_asks_who_calls(compose: dict[str, Any]) -> None:
    listening = {n for n, s in compose["services"].items() if "--host" in s.get("command", [])}
    assert listening == {"api", "live", "live-asr", "flower"}
    # it asks for certificates, which check_stage insists on
    assert compose["services"]["live-asr"]["command"][:2] == ["serve", "asr"]
    with pytest.raises(Exposed):
        check_stage(Settings(), "0.0.0.0")
    for name in ("api", "live"):
        assert "${LONGHAND_API_KEYS:?" in compose["services"][name]["environment"]["LONGHAND_API_KEYS"]
    flower = compose["services"]["flower"]["environment"]
    check_flower(flower, "0.0.0.0")
    with pytest.raises(Exposed):
        check_flower(flower | {"FLOWER_BASIC_AUTH": "longhand:"}, "0.0.0.0")


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_hold_every_package_and_no_root_process(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    for package in (
        "api",
        "cli",
        "db",
        "live",
        "longhand",
        "migrations",
        "http_engines",
        "speech",
        "tasks",
        "workers",
    ):
        assert f"COPY {package} {package}" in text
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    # neither secrets nor what may hold some
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|SECRET|KEY|TOKEN)", text, re.MULTILINE)
    assert {".env", ".longhand", ".git"} <= set((ROOT / ".dockerignore").read_text().split())
    assert 'ENTRYPOINT ["longhand"]' in text


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"`LONGHAND_{name.upper()}`" not in text]
    assert missing == []
