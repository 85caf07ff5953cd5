"""Rules and dashboard: every alert comes when it should and is explained, and every metric exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cli.observe.processes import DASHBOARD, RULES, Grafana
from cli.stack.process import free_port
from db.session import Sessions
from tests.observe.names import exported

ROOT = Path(__file__).parents[2]
OPERATING = ROOT / "docs" / "operating.md"
COMPUTED = re.compile(r"\blonghand:\w+:\w+")
NAME = re.compile(
    r"\b(?:longhand|orchestrator|asr|vad|dn|lid|compress|event_delay|ingress|egress|pcm_to_opus)_[a-z_]+(?![a-z_]*[\[(])?"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def dashboard_expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics, without what stands in strings and labels."""
    bare = re.sub(r"\{[^}]*\}", "", COMPUTED.sub("", re.sub(r'"[^"]*"', "", expression)))
    return {name for name in NAME.findall(bare)}


def test_every_metric_that_is_asked_for_is_exported(sessions: Sessions) -> None:
    known = exported(sessions)
    for expression in (*(rule["expr"] for rule in rules()), *dashboard_expressions()):
        assert metrics_in(expression) <= known, expression
    # what is seen by the test above
    assert metrics_in('sum by (kind) (rate(longhand_steps_total{outcome="longhand_x"}[5m]))') == {
        "longhand_steps_total"
    }
    assert "longhand_step_seconds_bucket" in known
    assert "longhand_steps" not in known


def test_what_is_computed_is_what_is_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    alerted = set(COMPUTED.findall(" ".join(rule["expr"] for rule in rules())))
    shown = set(COMPUTED.findall(" ".join(dashboard_expressions())))
    assert alerted == recorded
    assert shown <= recorded


def test_every_alert_is_caused_in_a_test_and_has_its_section() -> None:
    caused = {
        test["alertname"]
        for case in yaml.safe_load((Path(__file__).parent / "rules.test.yml").read_text())["tests"]
        for test in case["alert_rule_test"]
        if test["exp_alerts"]
    }
    assert caused == {alert["alert"] for alert in alerts()}
    sections = set(re.findall(r"^### (Longhand\w+)$", OPERATING.read_text(), re.MULTILINE))
    assert sections == caused
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/operating.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_panels_do_not_overlap_and_their_ids_differ() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: it comes with Debian's package prometheus"
)
@pytest.mark.parametrize("arguments", [("check", "rules", str(RULES)), ("test", "rules", "rules.test.yml")])
def test_prometheus_takes_the_rules_and_each_alert_comes(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def grafana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grafana]:
    """A program of that name, which answers as ready where it is told to listen."""
    home = tmp_path / "installed"
    (home / "bin").mkdir(parents=True)
    (home / "conf").mkdir()
    (home / "conf" / "defaults.ini").touch()
    program = home / "bin" / "grafana"
    program.write_text(
        textwrap.dedent(f"""\
            #!{sys.executable}
            import os, sys
            from http.server import BaseHTTPRequestHandler, HTTPServer

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()

            assert sys.argv[1:] == ["server", "--homepath", {str(home)!r}], sys.argv
            assert len(os.environ["GF_SECURITY_ADMIN_PASSWORD"]) >= 20
            address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
            HTTPServer(address, Handler).serve_forever()
            """)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    made = Grafana(tmp_path / "data" / "grafana", None, port=free_port(), prometheus="http://127.0.0.1:9090")
    made.start()
    yield made
    made.stop()


def test_grafana_gets_the_dashboard_and_a_password(grafana: Grafana, tmp_path: Path) -> None:
    assert httpx.get(grafana.url).status_code == 200
    provisioning = tmp_path / "data" / "grafana" / "provisioning"
    (source,) = json.loads((provisioning / "datasources" / "longhand.yaml").read_text())["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    (provider,) = json.loads((provisioning / "dashboards" / "longhand.yaml").read_text())["providers"]
    assert Path(provider["options"]["path"]) == DASHBOARD.parent
    assert (tmp_path / "data" / "grafana.password").stat().st_mode & 0o077 == 0
