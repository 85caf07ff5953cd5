"""Prometheus and Grafana of the distribution, where they are on PATH, with files made for one stack."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from cli.stack.process import HOST, Process, StackError, local_url
from cli.stack.server import kept_password
from db.private_files import make_private_folder, write_private
from db.settings import Settings

FILES = Path(__file__).parent
RULES, DASHBOARD = FILES / "rules.yml", FILES / "dashboard.json"

METRICS_PORT = 9101
"""Of the first worker; the others have those behind it."""

METRICS_TOKEN_FILE = "metrics.password"  # noqa: S105  (its name)
"""In the data folder: what Prometheus shows to the processes that it asks, unless the settings have a token."""


def arrange(data_dir: Path) -> None:
    """Have the processes that are started from now on serve their metrics, to who has the token."""
    settings = Settings()
    if not settings.metrics_port:
        os.environ["LONGHAND_METRICS_PORT"] = str(METRICS_PORT)
    if settings.metrics_token is None:
        os.environ["LONGHAND_METRICS_TOKEN"] = kept_password(data_dir / METRICS_TOKEN_FILE)


Targets = Mapping[str, Sequence[int]]
"""Ports on this machine, by what listens there."""


class Prometheus(Process):
    """Reads the metrics of a stack's processes, and keeps them for two weeks."""

    name = "prometheus"

    def __init__(self, folder: Path, log: Path | None, *, port: int, targets: Targets, token: str) -> None:
        super().__init__(log)
        self._folder, self._port, self._targets, self._token = folder.absolute(), port, targets, token

    @property
    def url(self) -> str:
        return local_url(HOST, self._port)

    def prepare(self) -> None:
        make_private_folder(self._folder)
        write_private(self._folder / "token", self._token)
        write_private(self._folder / "prometheus.yml", json.dumps(self._configuration(), indent=1))

    def _configuration(self) -> Mapping[str, object]:
        """As JSON, which is YAML too."""
        return {
            "global": {"scrape_interval": "15s", "evaluation_interval": "30s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": f"longhand-{name}",
                    "authorization": {"credentials_file": str(self._folder / "token")},
                    "static_configs": [{"targets": [f"{HOST}:{port}" for port in ports]}],
                }
                for name, ports in self._targets.items()
            ],
        }

    def command(self) -> Sequence[str]:
        return [
            _find("prometheus"),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=15d",
            f"--web.listen-address={HOST}:{self._port}",
        ]

    def ready(self) -> bool:
        return _answers(f"{self.url}/-/ready")


class Grafana(Process):
    """Shows the dashboard, to who has the password that is kept in the data folder."""

    name = "grafana"
    start_seconds = 120.0
    user = "longhand"

    def __init__(self, folder: Path, log: Path | None, *, port: int, prometheus: str) -> None:
        super().__init__(log)
        self._folder, self._port, self._prometheus = folder.absolute(), port, prometheus

    @property
    def url(self) -> str:
        return local_url(HOST, self._port)

    def prepare(self) -> None:
        for part in ("datasources", "dashboards"):
            make_private_folder(self._folder / "provisioning" / part)
        source = {"name": "Prometheus", "type": "prometheus", "url": self._prometheus, "isDefault": True}
        provider = {"name": "Longhand", "type": "file", "options": {"path": str(FILES)}}
        for part, list_, entry in (("datasources", "datasources", source), ("dashboards", "providers", provider)):
            file = self._folder / "provisioning" / part / "longhand.yaml"
            write_private(file, json.dumps({"apiVersion": 1, list_: [entry]}))

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "GF_SERVER_HTTP_ADDR": HOST,
            "GF_SERVER_HTTP_PORT": str(self._port),
            "GF_PATHS_DATA": str(self._folder / "data"),
            "GF_PATHS_LOGS": str(self._folder / "logs"),
            "GF_PATHS_PLUGINS": str(self._folder / "plugins"),
            "GF_PATHS_PROVISIONING": str(self._folder / "provisioning"),
            "GF_SECURITY_ADMIN_USER": self.user,
            "GF_SECURITY_ADMIN_PASSWORD": kept_password(self._folder.parent / "grafana.password"),
            # nothing of it leaves this machine
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_NEWS_NEWS_FEED_ENABLED": "false",
        }

    def command(self) -> Sequence[str]:
        program = Path(_find("grafana"))
        # its pages lie beside the program, or where the distribution's package has them
        homes = (program.resolve().parents[1], Path("/usr/share/grafana"))
        home = next((home for home in homes if (home / "conf" / "defaults.ini").exists()), homes[0])
        return [str(program), "server", "--homepath", str(home)]

    def ready(self) -> bool:
        return _answers(f"{self.url}/api/health")


def installed(name: str) -> bool:
    return shutil.which(name) is not None


def _find(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not on PATH.")
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
