"""Real servers for all tests: PostgreSQL, Redis and S3 start once; each test has its own database and bucket."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from redis import Redis as RedisClient
from sqlalchemy import make_url

from cli.stack.postgres import Postgres
from cli.stack.services import S3, Redis
from db.objects.storage import Storage
from db.prepare import prepare
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.queue import app as celery

MODELS = Settings().models_path.absolute()
TEMPLATE = "longhand_template"
MEMORY = Path("/dev/shm")  # noqa: S108
ROOM_IN_MEMORY = 6 * 2**30
"""Of bytes, for three runs side by side whose PostgreSQL keeps up to 1 GiB of its log."""


@dataclass(frozen=True)
class Servers:
    """The running servers, and the environment that connects to them."""

    postgres: Postgres
    redis: Redis
    s3: S3

    def environment(self) -> dict[str, str]:
        return self.postgres.env | self.redis.env | self.s3.env


@pytest.fixture(scope="session")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what is written all the time, and survives no power cut: where there is room, in memory."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM_IN_MEMORY:
        yield tmp_path_factory.mktemp("servers")
        return
    with tempfile.TemporaryDirectory(prefix="longhand-tests-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, in_memory: Path) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    started = Servers(Postgres(in_memory / "postgres"), Redis(folder / "redis"), S3(folder / "s3"))
    services = (started.postgres, started.redis, started.s3)
    try:
        for service in services:
            service.start()
        # hints that tests send go to the tests' own Redis
        celery.conf.update(broker_url=started.redis.env["LONGHAND_REDIS_URL"])
        yield started
    finally:
        for service in reversed(services):
            service.stop()


def settings_from(environment: dict[str, str], **changes: object) -> Settings:
    values = {name.removeprefix("LONGHAND_").lower(): value for name, value in environment.items()}
    return Settings.model_validate(values | changes)


@pytest.fixture(scope="session")
def template(servers: Servers) -> Settings:
    """Settings of a migrated database, which is copied for each test."""
    settings = settings_from(servers.environment())
    url = make_url(settings.database_url).set(database=TEMPLATE)
    _admin(settings, f'CREATE DATABASE "{TEMPLATE}"')
    # no data has to survive a power cut
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        _admin(settings, f"ALTER SYSTEM SET {setting} = off")
    _admin(settings, "SELECT pg_reload_conf()")
    settings = settings.model_copy(
        update={"database_url": url.render_as_string(hide_password=False), "s3_bucket": "template"}
    )
    prepare(settings)
    return settings


def _admin(settings: Settings, statement: str) -> None:
    url = make_url(settings.database_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def settings(servers: Servers, template: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A fresh database, bucket and Redis for one test."""
    with fresh(servers, template, tmp_path) as made:
        yield made


@contextmanager
def fresh(servers: Servers, template: Settings, folder: Path) -> Iterator[Settings]:
    """The same for as long as somebody needs it. Everything in Redis is gone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    base = settings_from(servers.environment())
    _admin(base, f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
    RedisClient.from_url(base.redis_url).flushall()
    url = make_url(base.database_url).set(database=name)
    test_settings = base.model_copy(
        update={
            "database_url": url.render_as_string(hide_password=False),
            "s3_bucket": name.replace("_", "-"),
            "data_dir": folder,
            "models_dir": MODELS,
            # leases are left alone for twice as long after Postgres has started
            "lease_renew_seconds": 0.2,
        }
    )
    Storage(test_settings).ensure_bucket()
    yield test_settings
    _admin(base, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sessions(settings: Settings) -> Iterator[Sessions]:
    factory = make_sessions(settings, name="test")
    yield factory
    factory.kw["bind"].dispose()


def environment_of(settings: Settings) -> dict[str, str]:
    """The LONGHAND_* variables that give a process these settings."""
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return {
        f"LONGHAND_{name.upper()}": json.dumps(value) if isinstance(value, dict | list) else str(value)
        for name, value in values.items()
    }
