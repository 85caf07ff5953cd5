"""The manifests in docker/kubernetes, as far as they can be checked without a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.stack.stack import PRODUCTS
from db.settings import Settings
from tasks.queue import QUEUES

FOLDER = Path(__file__).parent.parent / "docker" / "kubernetes"
WORKLOADS = ("Deployment", "Job")


def load_manifests() -> list[dict[str, Any]]:
    files = [file for file in sorted(FOLDER.glob("*.yaml")) if file.name != "kustomization.yaml"]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


MANIFESTS = load_manifests()
DEPLOYMENTS = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "Deployment"}
BROKER = {"LONGHAND_REDIS_URL"}
SERVERS = {"LONGHAND_DATABASE_URL", "LONGHAND_S3_ACCESS_KEY", "LONGHAND_S3_SECRET_KEY", *BROKER}
WORKER = {*SERVERS, "LONGHAND_SECRET_KEY"}
SECRETS = {
    "api": {*WORKER, "LONGHAND_API_KEYS"},
    "live": {*WORKER, "LONGHAND_API_KEYS"},
    "worker-cpu": WORKER,
    "worker-gpu": WORKER,
    "worker-io": WORKER,
    "beat": BROKER,
}
PATIENT = {"index"}
"""Kinds that no worker is started for: what has to be made searchable by meaning may be years of recordings."""


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in MANIFESTS:
        if manifest["kind"] in WORKLOADS:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in pods():
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            yield f"{name}/{container['name']}", container


def variables(file: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", (FOLDER / file).read_text(), re.MULTILINE))


def test_every_file_is_part_of_it() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f.name for f in FOLDER.glob("*.yaml") if f.name != "kustomization.yaml")


def test_every_part_of_the_product_has_the_same_entry_point() -> None:
    started = {spec["template"]["spec"]["containers"][0]["args"][2] for spec in DEPLOYMENTS.values()}
    # Celery's own page is for a machine of one's own
    assert started == set(PRODUCTS) - {"flower"}


def test_every_variable_is_a_setting_and_no_secret_is_for_everybody() -> None:
    known = {f"LONGHAND_{name.upper()}" for name in Settings.model_fields}
    secret, open_ = variables("secrets.example.env"), variables("settings.env")
    assert secret | open_ <= known
    assert not secret & open_
    for name, container in containers():
        given = {each["name"]: each for each in container.get("env", [])}
        assert set(given) <= known, name
        from_secret = {key for key, each in given.items() if "valueFrom" in each}
        assert all(given[key]["valueFrom"]["secretKeyRef"]["key"] == key for key in from_secret), name
        assert from_secret <= secret, name
        assert not secret & (set(given) - from_secret), name
    for name, spec in DEPLOYMENTS.items():
        (container,) = spec["template"]["spec"]["containers"]
        assert {each["name"] for each in container["env"] if "valueFrom" in each} == SECRETS[name]


def test_every_container_is_confined_and_limited() -> None:
    for name, container in containers():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], name
        assert not security["allowPrivilegeEscalation"], name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"], name
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], name  # noqa: S108
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name


def test_workers_that_load_tuned_versions_can_keep_them() -> None:
    for name in ("worker-cpu", "worker-gpu"):
        pod = DEPLOYMENTS[name]["template"]["spec"]
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "models")
        (volume,) = (each for each in pod["volumes"] if each["name"] == "models")
        assert not mount.get("readOnly"), name
        assert not volume["persistentVolumeClaim"].get("readOnly"), name


def test_what_reads_meanings_has_the_models() -> None:
    for name in ("api", "worker-cpu"):
        (container,) = DEPLOYMENTS[name]["template"]["spec"]["containers"]
        assert "/var/lib/longhand/models" in [mount["mountPath"] for mount in container["volumeMounts"]], name


def test_what_needs_the_schema_waits_for_it() -> None:
    for name, spec in DEPLOYMENTS.items():
        pod = spec["template"]["spec"]
        prepared = [container["command"] for container in pod.get("initContainers", [])]
        assert prepared == ([] if name == "beat" else [["python", "-m", "db.prepare"]]), name


def test_workers_have_time_to_drain_and_are_replaced_one_by_one() -> None:
    for name in ("worker-cpu", "worker-gpu", "worker-io"):
        spec = DEPLOYMENTS[name]
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 2 * Settings().drain_seconds
        assert spec["strategy"]["rollingUpdate"] in (
            {"maxSurge": 1, "maxUnavailable": 0},
            {"maxSurge": 0, "maxUnavailable": 1},
        )
        assert "replicas" not in spec, "the scaler says how many"


def test_each_queue_is_scaled_by_all_of_its_kinds() -> None:
    scalers = [m["spec"] for m in MANIFESTS if m["kind"] == "ScaledObject"]
    assert len(scalers) == len(set(QUEUES.values()))
    for scaler in scalers:
        name = scaler["scaleTargetRef"]["name"]
        assert name in DEPLOYMENTS
        (trigger,) = scaler["triggers"]
        kinds = re.search(r'kind=~"([a-z|]+)"', trigger["metadata"]["query"])
        assert kinds is not None
        scaled = {kind for kind, queue in QUEUES.items() if f"worker-{queue}" == name} - PATIENT
        assert sorted(kinds[1].split("|")) == sorted(scaled)
        assert "longhand_queue_(waiting|running)_steps" in trigger["metadata"]["query"]
        assert scaler["minReplicaCount"] <= scaler["fallback"]["replicas"] <= scaler["maxReplicaCount"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kustomize_builds_it(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (folder / "secrets.example.env").rename(folder / "secrets.env")
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    manifests = list(yaml.safe_load_all(built.stdout))
    # the generated settings and secrets too
    assert len(manifests) == len(MANIFESTS) + 2
    assert {m["metadata"].get("namespace") for m in manifests if m["kind"] != "Namespace"} == {"longhand"}
