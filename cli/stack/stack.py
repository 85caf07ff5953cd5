"""Which processes make up the stack, and how they find each other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.observe.processes import (
    DASHBOARD,
    METRICS_PORT,
    METRICS_TOKEN_FILE,
    RULES,
    Grafana,
    Prometheus,
    Targets,
    arrange,
    installed,
)
from cli.stack.postgres import Postgres
from cli.stack.process import HOST, Process, StackError, free_port, local_url, port_taken
from cli.stack.product import Api, Beat, Flower, Live, Worker
from cli.stack.server import Server, kept_password
from cli.stack.services import S3, Redis
from cli.stack.supervisor import Stop, Supervisor
from db.exposure import Exposed, check_api, check_flower, has_flower_credentials
from db.private_files import make_private_folder, write_private
from db.settings import Settings

SERVERS: dict[str, type[Server]] = {"postgres": Postgres, "redis": Redis, "s3": S3}
PRODUCTS = ("api", "live", "cpu", "gpu", "io", "beat", "flower")
PARTS = (*SERVERS, *PRODUCTS)
WORKERS = ("cpu", "gpu", "io")
ENVIRONMENT = "environment.json"
PORTS = {
    **{"postgres": 5433, "redis": 6380, "s3": 9000, "api": 8000, "live": 8001, "flower": 5555},
    **{"prometheus": 9090, "grafana": 3000},
}


@dataclass(frozen=True)
class Plan:
    """What to run and where. A port of 0 means any free one."""

    data_dir: Path
    parts: Sequence[str] = PARTS
    ports: dict[str, int] = field(default_factory=lambda: dict(PORTS))
    host: str = HOST
    worker_module: str = "workers"
    """What runs as a worker: tests bring one of their own."""
    observe: bool = False
    """Whether Prometheus and Grafana run beside it, where they are installed."""
    logs_to_terminal: bool = False
    """As containers want it; otherwise each process has a file in ``data_dir/logs``."""

    def log(self, name: str) -> Path | None:
        return None if self.logs_to_terminal else self.data_dir.absolute() / "logs" / f"{name}.log"


class Stack:
    """A running stack. Use :func:`running_stack`."""

    def __init__(self, plan: Plan, print_line: Callable[[str], None], stop: Stop) -> None:
        self.plan = plan
        self._print_line = print_line
        self.supervisor = Supervisor(print_line, stop)
        self.environment: dict[str, str] = {
            "LONGHAND_DATA_DIR": str(plan.data_dir.absolute()),
            "LONGHAND_MODELS_DIR": str(Settings().models_path.absolute()),
        }
        self.api_url = self.live_url = ""

    def start(self) -> None:
        """Raises StackError when a part cannot start, or may not any more (Stopped)."""
        ports = {name: self._port(name) for name in PORTS if name in self.plan.parts}
        for name, server in SERVERS.items():
            if name in self.plan.parts:
                started = server(self.plan.data_dir / name, ports[name], self.plan.log(name))
                self.supervisor.start(started)
                self.environment |= started.env
        if any(part in self.plan.parts for part in SERVERS):
            self._prepare()
            write_environment(self.plan.data_dir, self.environment)
        if "flower" in ports and Settings().flower_url is None:
            # without its password
            self.environment["LONGHAND_FLOWER_URL"] = local_url(self.plan.host, ports["flower"])
        if {"api", "live"} <= ports.keys() and Settings().live_url is None:
            self.environment["LONGHAND_LIVE_URL"] = local_url(self.plan.host, ports["live"], "ws")
        products = [self._product(part, ports) for part in PRODUCTS if part in self.plan.parts]
        self.supervisor.start_together(products)
        if self.plan.observe:
            self._observe(ports)

    def _observe(self, ports: dict[str, int]) -> None:
        """Start what shows the metrics, or say where they are."""
        settings = Settings()
        first = settings.metrics_port or METRICS_PORT
        workers = [name for name in WORKERS if name in self.plan.parts]
        targets: Targets = {
            **{name: [ports[name]] for name in ("api", "live") if name in ports},
            "workers": [*range(first, first + len(workers))],
        }
        folder = self.plan.data_dir
        if not installed("prometheus"):
            told = ", ".join(f"{HOST}:{port}" for listening in targets.values() for port in listening)
            self._print_line(
                f"prometheus is not on PATH. Point yours at {told}, with the token in "
                f"{folder / METRICS_TOKEN_FILE} and the rules in {RULES}, and import {DASHBOARD} into Grafana."
            )
            return
        prometheus = Prometheus(
            folder / "prometheus",
            self.plan.log("prometheus"),
            port=self._port("prometheus"),
            targets=targets,
            token=settings.metrics_token or "",
        )
        self.supervisor.start(prometheus)
        if not installed("grafana"):
            self._print_line(f"grafana is not on PATH. Point yours at {prometheus.url}, and import {DASHBOARD}.")
            return
        self.supervisor.start(
            Grafana(
                folder / "grafana", self.plan.log("grafana"), port=self._port("grafana"), prometheus=prometheus.url
            )
        )

    def _port(self, name: str) -> int:
        port = self.plan.ports[name]
        if port and port_taken(port, self.plan.host):
            raise StackError(
                f"Port {port} for {name} is taken by another program; choose one with --{name}-port PORT "
                f"(0 for any free one)."
            )
        return port or free_port()

    def _prepare(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "db.prepare"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"The database could not be prepared:\n{done.stderr[-2000:]}")

    def _product(self, part: str, ports: dict[str, int]) -> Process:
        log = self.plan.log(part)
        match part:
            case "api":
                api = Api(self.environment, log, host=self.plan.host, port=ports["api"])
                self.api_url = api.url
                return api
            case "live":
                # recordings are named by the API's URL, unless it is told how clients reach that
                base = (
                    {} if "public_base" in Settings().model_fields_set else {"LONGHAND_PUBLIC_BASE": self.api_url}
                )
                environment = self.environment | (base if self.api_url else {})
                live = Live(environment, log, host=self.plan.host, port=ports["live"])
                self.live_url = live.url
                return live
            case "flower":
                password = None
                if not has_flower_credentials(os.environ):
                    password = kept_password(self.plan.data_dir / "flower.password")
                return Flower(self.environment, log, host=self.plan.host, port=ports["flower"], password=password)
            case "beat":
                return Beat(self.environment, log)
            case _:
                environment = self.environment | self._metrics_port(part)
                return Worker(part, environment, log, module=self.plan.worker_module)

    def _metrics_port(self, part: str) -> dict[str, str]:
        """Workers on one machine do not share a port: the first has that of the settings, others the next ones."""
        first = Settings().metrics_port
        if not first:
            return {}
        place = [worker for worker in WORKERS if worker in self.plan.parts].index(part)
        return {"LONGHAND_METRICS_PORT": str(first + place)}


def write_environment(data_dir: Path, environment: Mapping[str, str]) -> None:
    """Write how to reach the servers, passwords included, for commands of the same user."""
    write_private(data_dir / ENVIRONMENT, json.dumps(environment))


def environment_of(data_dir: Path) -> dict[str, str]:
    """The ``LONGHAND_*`` variables of the stack that runs in a folder; none if none does."""
    file = data_dir / ENVIRONMENT
    return dict(json.loads(file.read_text())) if file.exists() else {}


@contextlib.contextmanager
def running_stack(plan: Plan, print_line: Callable[[str], None], stop: Stop | None = None) -> Iterator[Stack]:
    """A started stack, stopped on exit. Raises StackError, which is Stopped if ``stop`` was wanted meanwhile."""
    if unknown := [part for part in plan.parts if part not in PARTS]:
        raise StackError(f"There is no part {', '.join(unknown)}; choose among {', '.join(PARTS)}.")
    _check_elsewhere(plan)
    _check_exposure(plan)
    with _exclusive_lock(plan):
        if plan.observe:
            arrange(plan.data_dir)
        stack = Stack(plan, print_line, stop or Stop())
        try:
            stack.start()
            yield stack
        finally:
            stack.supervisor.stop()
            if any(part in SERVERS for part in plan.parts):
                (plan.data_dir / ENVIRONMENT).unlink(missing_ok=True)


def _check_elsewhere(plan: Plan) -> None:
    """Raises StackError if servers that are not parts of the stack are not configured. S3 defaults to AWS."""
    given = Settings().model_fields_set
    if not any(part in PRODUCTS for part in plan.parts):
        return
    for server, name in (("postgres", "database_url"), ("redis", "redis_url")):
        if server not in plan.parts and name not in given:
            raise StackError(
                f"{server} is not among the parts, so LONGHAND_{name.upper()} must say where it runs."
            )


def _check_exposure(plan: Plan) -> None:
    """Raises StackError before anything starts; the API and Flower check it themselves too."""
    try:
        if "api" in plan.parts:
            # where there is a database, here or elsewhere, the API asks it
            elsewhere = "postgres" not in plan.parts
            check_api(Settings(), plan.host, lambda: elsewhere or (plan.data_dir / "postgres").exists())
        if "flower" in plan.parts:
            check_flower(os.environ, plan.host)
    except Exposed as error:
        raise StackError(str(error)) from error


@contextlib.contextmanager
def _exclusive_lock(plan: Plan) -> Iterator[None]:
    """One stack for each data folder that holds servers."""
    if not any(part in SERVERS for part in plan.parts):
        yield
        return
    _make_data_folder(plan.data_dir)
    with os.fdopen(os.open(plan.data_dir / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"Another stack runs in {plan.data_dir}; stop it, or choose another folder with --data-dir."
            ) from error
        yield


def _make_data_folder(folder: Path) -> None:
    """Make it readable by this user alone.

    A folder that we did not create may be shared on purpose and stays as it is: what we write is private itself.
    """
    if not folder.exists() or folder.name == Settings.model_fields["data_dir"].default.name:
        make_private_folder(folder)
