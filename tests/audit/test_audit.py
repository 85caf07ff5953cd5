"""The audit itself: what it does with each answer, and with none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.audit import __main__ as audited
from tests.audit.__main__ import ENVIRONMENT, LOCKS, ROOT, Unreachable, audit, main, probe

CLEAN = {"dependencies": [{"name": "mako", "version": "1.4.3", "vulns": []}], "fixes": []}
VULNERABLE = {
    "dependencies": [
        {
            "name": "mako",
            "version": "1.4.3",
            "vulns": [{"id": "PYSEC-0000-1", "fix_versions": ["9"], "aliases": [], "description": ""}],
        },
        {"name": "torch", "skip_reason": "not on the index"},
    ],
    "fixes": [],
}


@pytest.fixture
def service() -> Iterator[str]:
    """Knows no vulnerability."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def program(folder: Path, body: str) -> Path:
    """What stands in for pip-audit."""
    made = folder / "pip-audit"
    made.write_text(f"#!/bin/sh\n{body}\n")
    made.chmod(0o700)
    return made


def answering(folder: Path, answer: object, status: int) -> Path:
    return program(folder, f"echo '{json.dumps(answer)}'; exit {status}")


def test_a_service_that_answers(service: str) -> None:
    probe(service)


def test_one_that_takes_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="timed out"):
        probe(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.2)


def test_findings_name_package_version_and_remedy(tmp_path: Path) -> None:
    assert audit(answering(tmp_path, CLEAN, 0), ROOT / LOCKS[0]) == []
    found = audit(answering(tmp_path, VULNERABLE, 1), ROOT / LOCKS[0])
    assert found == ["requirements.lock: mako 1.4.3 has PYSEC-0000-1 (fixed in 9)"]


def test_an_audit_that_breaks_off_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="connection reset"):
        audit(program(tmp_path, "echo Traceback >&2; echo connection reset >&2; exit 1"), ROOT / LOCKS[0])
    with pytest.raises(Unreachable, match="within"):
        audit(program(tmp_path, "exec sleep 60"), ROOT / LOCKS[0], seconds=0.2)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (CLEAN, 0, ["audit: no known vulnerabilities"]),
        (VULNERABLE, 1, [f"audit: {lock}: mako 1.4.3 has PYSEC-0000-1 (fixed in 9)" for lock in LOCKS]),
    ],
)
def test_vulnerabilities_fail_the_check(
    answer: object,
    status: int,
    said: list[str],
    service: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for lock in LOCKS:
        (tmp_path / lock).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / ENVIRONMENT / "bin").mkdir(parents=True)
    (tmp_path / "Makefile").write_text(f"{ENVIRONMENT}/.installed:\n\t@touch $@\n")
    answering(tmp_path / ENVIRONMENT / "bin", answer, status)
    monkeypatch.setattr(audited, "ROOT", tmp_path)
    monkeypatch.setattr(audited, "SERVICE", service)
    assert main() == status
    assert (tmp_path / ENVIRONMENT / ".installed").exists()
    assert capsys.readouterr().out.splitlines() == said


def test_without_a_way_out_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setattr(audited, "SERVICE", f"http://127.0.0.1:{closed}/v1/query")
    assert main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "not checked" in line
    assert "Connection refused" in line
