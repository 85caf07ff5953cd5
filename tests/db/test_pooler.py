"""All that Longhand asks of Postgres goes through PgBouncer, where a connection is lent for a transaction."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from cli.stack.process import HOST, Account, Process, free_port
from db.access import quotas
from db.models import Job, JobStatus
from db.prepare import prepare
from db.session import TIMEOUTS, Sessions, make_sessions
from db.settings import Settings
from db.tenancy import TenantSessions
from tests.jobs import make_job
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import job_of, recording, run_until_done, submit
from workers.diagnosis.servers import check_postgres

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
CONFIGURATION = Path(__file__).parents[2] / "docker" / "pgbouncer.ini"

pytestmark = pytest.mark.skipif(
    not Path(PROGRAM).exists(), reason="PgBouncer is not here: apt-get install pgbouncer"
)


def keeps_statements() -> bool:
    """Whether this PgBouncer knows which connection has which prepared statement."""
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", version)
    assert found is not None, version
    return (int(found[1]), int(found[2])) >= (1, 22)


class PgBouncer(Process):
    """As it is configured for containers, with two connections to the tests' Postgres."""

    name = "pgbouncer"

    def __init__(self, settings: Settings, folder: Path, configuration: str) -> None:
        super().__init__(log=None)
        self._direct, self._folder = make_url(settings.database_url), folder
        self._configuration = configuration
        self.port = free_port()

    @cached_property
    def account(self) -> Account | None:
        if os.geteuid():
            return None
        nobody = pwd.getpwnam("nobody")  # it refuses to run as root
        return Account(nobody.pw_uid, nobody.pw_gid)

    @property
    def database_url(self) -> str:
        return self._direct.set(port=self.port).render_as_string(hide_password=False)

    def prepare(self) -> None:
        users = self._folder / "userlist.txt"
        users.write_text(f'"{self._direct.username}" "{self._direct.password}"\n')
        name = self._direct.database
        changes = {
            r"^longhand = .* dbname=longhand": f"{name} = host={HOST} port={self._direct.port} dbname={name}",
            r"^listen_addr = .*": f"listen_addr = {HOST}",
            r"^listen_port = .*": f"listen_port = {self.port}",
            r"^auth_file = .*": f"auth_file = {users}",
            r"^default_pool_size = .*": "default_pool_size = 2",
            r"^;max_prepared_statements": "max_prepared_statements" if keeps_statements() else ";",
        }
        made = self._configuration
        for line, value in changes.items():
            made, count = re.subn(line, value, made, flags=re.MULTILINE)
            assert count == 1, line
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(f"{made}\nunix_socket_dir =\n")
        if self.account is not None:
            for path in (self._folder, users, configuration):
                os.chown(path, *self.account)

    def command(self) -> Sequence[str]:
        return [PROGRAM, str(self._folder / "pgbouncer.ini")]

    def ready(self) -> bool:
        try:
            url = make_url(self.database_url).set(drivername="postgresql")
            with psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False


@contextmanager
def pooling(settings: Settings, configuration: str) -> Iterator[Settings]:
    """Settings that lead to Postgres through PgBouncer."""
    # not below pytest's own folder, which is closed to others
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        server = PgBouncer(settings, Path(folder), configuration)
        server.start()
        try:
            yield settings.model_copy(
                update={"database_url": server.database_url, "database_prepare": keeps_statements()}
            )
        finally:
            server.stop()


@pytest.fixture
def pooled(settings: Settings) -> Iterator[Settings]:
    with pooling(settings, CONFIGURATION.read_text()) as made:
        yield made


@pytest.fixture
def pooled_sessions(pooled: Settings) -> Iterator[Sessions]:
    factory = make_sessions(pooled, name="pooled")
    yield factory
    factory.kw["bind"].dispose()


def test_tenants_stay_apart_on_connections_that_they_share(pooled_sessions: Sessions) -> None:
    for_tenant = TenantSessions(pooled_sessions)
    mine = {tenant: make_job(pooled_sessions, tenant=tenant) for tenant in ("acme", "globex")}

    def seen(tenant: str) -> set[object]:
        with for_tenant(tenant)() as session:
            # more often than a statement is prepared after
            return {session.scalars(select(Job.id)).one() for _ in range(8)}

    with ThreadPoolExecutor(8) as pool:
        tenants = ["acme", "globex"] * 20
        assert list(pool.map(seen, tenants)) == [{mine[tenant]} for tenant in tenants]
    with pooled_sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_a_job_runs_to_its_end(pooled: Settings) -> None:
    runtime = FakeRuntime(pooled, lambda _: "we met on monday", lambda _: "we met on Monday")
    job_id = submit(runtime, recording("jfk.flac"), options={"diarize": False})
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(run_until_done, runtime) for _ in range(3)]:
            done.result()
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED


def test_timeouts_and_locks_hold_as_they_do_without(pooled: Settings, pooled_sessions: Sessions) -> None:
    with pooled_sessions() as session:
        for name, seconds in TIMEOUTS.items():
            value = select(func.extract("epoch", text(f"current_setting('{name}')::interval")))
            assert session.scalar(value) == seconds
    with pooled_sessions.begin() as first, pooled_sessions.begin() as second:
        quotas.lock(first, "acme")
        is_free = "SELECT pg_try_advisory_xact_lock(hashtextextended('quotas of acme', 0))"
        assert second.scalar(text(is_free)) is False
    states = {found.check: found.state for found in check_postgres(pooled)}
    assert "timeouts" not in states


def test_the_doctor_knows_when_timeouts_do_not_arrive(settings: Settings) -> None:
    without = re.sub(r" connect_query='.*'$", "", CONFIGURATION.read_text(), flags=re.MULTILINE)
    with pooling(settings, without) as pooled:
        found = {each.check: each for each in check_postgres(pooled)}
    assert "lock_timeout" in found["timeouts"].found


def test_migrations_may_come_this_way_too(pooled: Settings) -> None:
    prepare(pooled)


@pytest.mark.skipif(keeps_statements() if Path(PROGRAM).exists() else True, reason="this PgBouncer keeps them")
def test_statements_that_are_kept_break_on_an_old_pgbouncer(pooled: Settings) -> None:
    """Which is why `LONGHAND_DATABASE_PREPARE` has to be false there."""
    sessions = make_sessions(pooled.model_copy(update={"database_prepare": True}), name="test")

    def ask(_: int) -> None:
        for _ in range(20):
            with sessions.begin() as session:
                session.execute(select(Job.id))

    with pytest.raises(DBAPIError, match="prepared statement"), ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    sessions.kw["bind"].dispose()
