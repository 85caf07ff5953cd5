"""The product's own processes: the API, the workers, beat and Flower."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from cli.stack.process import HOST, Process, local_url

WORKER_READY_LINE = "ready."
"""What a Celery worker writes into its log once it takes work."""


class Product(Process):
    """A Python process of ours with settings of the stack added to its environment."""

    stops_together = True

    def __init__(self, settings: Mapping[str, str], log: Path | None) -> None:
        super().__init__(log)
        self._settings = settings

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self._settings}


class Api(Product):
    """A server of HTTP."""

    name = "api"

    def __init__(self, settings: Mapping[str, str], log: Path | None, *, host: str = HOST, port: int) -> None:
        super().__init__(settings, log)
        self.host, self.port = host, port

    @property
    def url(self) -> str:
        return local_url(self.host, self.port)

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", self.name),
            *("--host", self.host, "--port", str(self.port)),
        ]

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


class Live(Api):
    """The server of live sessions, which has engines to load."""

    name = "live"
    start_seconds = 120.0
    stop_seconds = 30.0


class Worker(Product):
    """A Celery worker of one queue. Told to stop, it finishes the steps it has claimed."""

    start_seconds = 120.0
    stop_seconds = 30.0

    def __init__(
        self, queue: str, settings: Mapping[str, str], log: Path | None, *, module: str = "workers"
    ) -> None:
        super().__init__(settings, log)
        self._module = module
        self.queue = queue
        self.name = queue
        self._begun = 0

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", self._module, self.queue]

    def prepare(self) -> None:
        self._begun = self.log.stat().st_size if self.log is not None and self.log.exists() else 0

    def ready(self) -> bool:
        if self.log is None:
            return self.running
        with self.log.open("rb") as file:
            file.seek(self._begun)
            return WORKER_READY_LINE.encode() in file.read()


class Beat(Product):
    name = "beat"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "workers", "beat"]


class Flower(Product):
    """Protected by the given password, or by the credentials in the environment."""

    name = "flower"
    user = "longhand"

    def __init__(
        self,
        settings: Mapping[str, str],
        log: Path | None,
        *,
        host: str = HOST,
        port: int,
        password: str | None = None,
    ) -> None:
        own = {"LONGHAND_FLOWER_HOST": host, "LONGHAND_FLOWER_PORT": str(port)}
        if password is not None:
            # not on the command line, which every local user can read
            own["FLOWER_BASIC_AUTH"] = f"{self.user}:{password}"
        super().__init__({**settings, **own}, log)
        self.host, self.port, self._password = host, port, password

    @property
    def url(self) -> str:
        """Includes the generated password, which is shown nowhere else."""
        url = local_url(self.host, self.port)
        return url if self._password is None else url.replace("//", f"//{self.user}:{self._password}@", 1)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "workers", "flower"]

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthcheck", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
