"""Who may read the metrics of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from db.exposure import Exposed
from db.settings import Settings
from db.telemetry.exposition import serve_metrics
from db.telemetry.gpu import GpuCollector, free_share

TOKEN = "a-token-that-is-long-enough"


@contextmanager
def served(**values: object) -> Iterator[str]:
    server = serve_metrics(Settings.model_validate({"metrics_port": 0} | values))
    assert server is not None
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_of_its_own() -> None:
    with served() as url:
        answer = httpx.get(f"{url}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "longhand_step_seconds" in answer.text
        openmetrics = httpx.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text"})
        assert openmetrics.text.endswith("# EOF\n")
        assert httpx.get(f"{url}/").status_code == 404
        assert httpx.post(f"{url}/metrics").status_code == 501
        # by another name, which a page may have resolve to this machine
        assert httpx.get(f"{url}/metrics", headers={"Host": "evil.example"}).status_code == 421


def test_a_token() -> None:
    with served(metrics_token=TOKEN) as url:
        assert httpx.get(f"{url}/metrics").status_code == 401
        for wrong in ("Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ÿ"):
            sent = httpx.Headers({"Authorization": wrong}, encoding="latin-1")
            assert httpx.get(f"{url}/metrics", headers=sent).status_code == 401, wrong
        given = {"Authorization": f"Bearer {TOKEN}", "Host": "worker.example"}
        assert httpx.get(f"{url}/metrics", headers=given).status_code == 200


def test_no_port_is_no_server() -> None:
    assert serve_metrics(Settings(metrics_port=None)) is None


def test_nobody_else_without_a_token() -> None:
    with pytest.raises(Exposed, match="set LONGHAND_METRICS_TOKEN"):
        serve_metrics(Settings(metrics_port=0, metrics_host="0.0.0.0"))


def test_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho '0, 1024, 81559, 37'\necho '1, 5, 81559, [N/A]'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    values = {
        (sample.name, sample.labels["gpu"]): sample.value
        for family in GpuCollector().collect()
        for sample in family.samples
    }
    assert values[("longhand_gpu_memory_used_bytes", "0")] == 1024**3
    assert values[("longhand_gpu_utilization_ratio", "0")] == pytest.approx(0.37)
    assert ("longhand_gpu_utilization_ratio", "1") not in values
    assert free_share() == pytest.approx(1 - 1024 / 81559)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(not family.samples for family in GpuCollector().collect())
    assert free_share() is None
