"""A tenant's session sees and changes that tenant's rows alone, whatever the query; its connection forgets it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from db import backup, jobs
from db.models import Base, Job
from db.prepare import alembic_config, prepare
from db.session import Sessions, make_sessions
from db.settings import Settings
from db.tenancy import TenantSessions
from db.tenant_role import TenantRoleError, ensure_tenant_role
from tests.filled import fill
from tests.jobs import make_job

SHARED = {"signing_keys", "rounds"}
"""Tables without tenants, or for all of them, which no tenant's session may read."""
SCOPED = sorted(set(Base.metadata.tables) - SHARED)
NEVER_CHANGED = {"usage", "audit", "erasures"}
NOT_ITS_OWN = {"tenants", "stored_bytes", "withdrawals", "lanes"}
"""Tables that a tenant's session may only read."""


@pytest.fixture
def for_tenant(sessions: Sessions) -> TenantSessions:
    return TenantSessions(sessions)


@pytest.fixture
def filled(sessions: Sessions) -> None:
    """A row of each of two tenants, at least, in every table."""
    for tenant in ("acme", "globex"):
        fill(sessions, tenant)


def count(session: Session, table: str) -> int:
    return int(session.scalars(text(f'SELECT count(*) FROM "{table}"')).one())  # noqa: S608


def refused(session: Session, statement: str, **values: Any) -> bool:
    """Whether Postgres forbids the statement."""
    try:
        session.execute(text(statement), values)
    except ProgrammingError as error:
        session.rollback()
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        return True
    return False


def test_every_table_has_a_policy_or_no_tenants(sessions: Sessions) -> None:
    """Whoever adds a table decides whose its rows are."""
    with sessions() as session:
        policies = set(session.scalars(text("SELECT tablename FROM pg_policies")))
        secured = set(session.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity")))
    assert policies == set(SCOPED)
    assert secured == set(SCOPED) | SHARED


@pytest.mark.usefixtures("filled")
def test_a_session_sees_its_tenants_rows_of_every_table(sessions: Sessions, for_tenant: TenantSessions) -> None:
    for table in SCOPED:
        with sessions() as session:
            rows = count(session, table)
        with for_tenant("acme")() as session:
            own = count(session, table)
        assert 0 < own < rows, table
        with for_tenant("globex")() as session:
            assert own + count(session, table) == rows, table
        with for_tenant("nobody")() as session:
            assert count(session, table) == 0, table


@pytest.mark.usefixtures("filled")
def test_no_marker_of_another_tenant_is_read(for_tenant: TenantSessions) -> None:
    with for_tenant("globex")() as session:
        for table in SCOPED:
            rows = session.scalars(text(f'SELECT CAST(t AS text) FROM "{table}" t')).all()  # noqa: S608
            assert rows, table
            assert not [row for row in rows if "acme" in row], table


@pytest.mark.usefixtures("filled")
def test_no_row_of_another_tenant_is_changed_or_deleted(sessions: Sessions, for_tenant: TenantSessions) -> None:
    def contents() -> dict[str, list[str]]:
        with sessions() as session:
            return {
                table: sorted(session.scalars(text(f'SELECT CAST(t AS text) FROM "{table}" t')))  # noqa: S608
                for table in SCOPED
            }

    before = contents()
    for table in SCOPED:
        column = next(iter(Base.metadata.tables[table].columns)).name
        with for_tenant("nobody")() as session:
            changed = refused(session, f'UPDATE "{table}" SET "{column}" = "{column}"')  # noqa: S608
            deleted = refused(session, f'DELETE FROM "{table}"')  # noqa: S608
            session.commit()
        assert changed == (table in NEVER_CHANGED | NOT_ITS_OWN), table
        assert deleted == (table in NEVER_CHANGED | NOT_ITS_OWN | {"api_keys"}), table
    assert contents() == before


@pytest.mark.usefixtures("filled")
def test_no_row_is_given_to_another_tenant(sessions: Sessions, for_tenant: TenantSessions) -> None:
    with for_tenant("acme")() as session:
        for table in SCOPED:
            if "tenant" in Base.metadata.tables[table].columns:
                assert refused(session, f"UPDATE \"{table}\" SET tenant = 'globex'"), table  # noqa: S608
    with pytest.raises(ProgrammingError, match="row-level security"):
        make_job(for_tenant("acme"), tenant="globex")
    with sessions() as session:
        theirs = session.scalars(text("SELECT id FROM jobs WHERE tenant = 'globex'")).first()
    insert = "INSERT INTO events (job_id, seq, type, data) VALUES (:job, 99, 'job.progress', '{}')"
    with for_tenant("acme")() as session:
        assert refused(session, insert, job=theirs)
    with for_tenant("globex")() as session:
        assert not refused(session, insert, job=theirs)


def test_what_belongs_to_no_tenant_is_out_of_reach(for_tenant: TenantSessions) -> None:
    with for_tenant("acme")() as session:
        for table in sorted(SHARED | {"alembic_version"}):
            assert refused(session, f'SELECT * FROM "{table}"'), table  # noqa: S608
        assert refused(session, "CREATE TABLE mine (id int)")


def test_every_transaction_of_a_session_is_held_to_its_tenant(for_tenant: TenantSessions) -> None:
    theirs = make_job(for_tenant("globex"), tenant="globex")
    with for_tenant("acme")() as session:
        for end in (session.commit, session.rollback, session.commit):
            assert session.get(Job, theirs) is None
            with session.begin_nested():
                assert count(session, "jobs") == 0
            end()


def test_a_connection_takes_nothing_to_the_next_transaction(settings: Settings) -> None:
    """Also where the one before failed, or never ended."""
    sessions = make_sessions(settings.model_copy(update={"database_pool": 2}), name="test")
    for_tenant = TenantSessions(sessions)
    job_id = make_job(for_tenant("acme"), tenant="acme")
    state = text("SELECT current_user, current_setting('longhand.tenant', true), pg_backend_pid()")
    with sessions() as session:
        user, _, backend = session.execute(state).one()
    with for_tenant("acme")() as session:
        assert session.execute(state).one() == (f"{user}_tenant", "acme", backend)
        with pytest.raises(ProgrammingError):
            session.execute(text("SELECT 1 FROM missing"))
    with for_tenant("globex")() as session:
        assert session.get(Job, job_id) is None
        assert session.execute(state).one() == (f"{user}_tenant", "globex", backend)
    with sessions() as session:
        assert session.execute(state).one() == (user, "", backend)
        assert session.get(Job, job_id) is not None
    # a statement that Postgres has prepared for the one is planned anew for the other
    for _ in range(12):
        for tenant, found in (("acme", 1), ("globex", 0)):
            with for_tenant(tenant)() as session:
                assert count(session, "jobs") == found
        with sessions() as session:
            assert count(session, "jobs") == 1
    sessions.kw["bind"].dispose()


def test_listing_among_others_jobs_reads_the_index(sessions: Sessions, for_tenant: TenantSessions) -> None:
    make_many = """
        INSERT INTO jobs (id, tenant, filename, bytes, sha256, options, source_key, created_at)
        SELECT gen_random_uuid(), 'tenant ' || n % 5, 'f', 1, '', '{}', '', now() - n * interval '1 minute'
        FROM generate_series(1, 20000) n
    """
    with sessions.begin() as session:
        session.execute(text(make_many))
    with sessions() as session:
        connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        connection.execute(text("VACUUM ANALYZE jobs"))
    with for_tenant("tenant 3")() as session:
        plans: list[str] = []

        def explain(connection: Connection, *statement: Any) -> None:
            _, sql, parameters, *_ = statement
            if "FROM jobs" in sql and not sql.startswith("EXPLAIN"):
                plans.extend(connection.exec_driver_sql(f"EXPLAIN {sql}", parameters).scalars())

        connection = session.connection()
        event.listen(connection, "before_cursor_execute", explain)
        assert {job.tenant for job in jobs.page(session, "tenant 3", limit=21)} == {"tenant 3"}
    plan = "\n".join(plans)
    assert "Index Scan Backward using ix_jobs_listing" in plan, plan
    assert "Sort" not in plan, plan


# --- the role


def admin(settings: Settings, *statements: str) -> None:
    url = make_url(settings.database_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def owned(settings: Settings) -> Iterator[Settings]:
    """A migrated database of a user that may do nothing else, without the role."""
    user = f"owner_{uuid.uuid4().hex[:8]}"
    admin(settings, f"CREATE ROLE {user} LOGIN PASSWORD 'x'", f"CREATE DATABASE {user} OWNER {user}")
    owned = connecting(settings, user, user)
    command.upgrade(alembic_config(owned.database_url), "head")
    yield owned
    admin(settings, f"DROP DATABASE {user} WITH (FORCE)")
    admin(settings, f"DROP ROLE IF EXISTS {user}_tenant", f"DROP ROLE {user}")


def connecting(settings: Settings, user: str, database: str | None) -> Settings:
    url = make_url(settings.database_url)
    url = url.set(username=user, password="x", database=database or url.database)
    return settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})


def username(settings: Settings) -> str:
    return str(make_url(settings.database_url).username)


def see_own_jobs(settings: Settings) -> None:
    """A job of one tenant, which the other does not see."""
    sessions = make_sessions(settings, name="test")
    make_job(TenantSessions(sessions)("acme"), tenant="acme")
    sessions.kw["bind"].dispose()
    assert jobs_seen(settings, "acme")
    assert not jobs_seen(settings, "globex")


def jobs_seen(settings: Settings, tenant: str) -> int:
    sessions = make_sessions(settings, name="test")
    with TenantSessions(sessions)(tenant)() as session:
        found = count(session, "jobs")
    sessions.kw["bind"].dispose()
    return found


def test_a_user_that_may_not_make_the_role_is_told_what_to_do(settings: Settings, owned: Settings) -> None:
    user = username(owned)
    with pytest.raises(TenantRoleError, match=f'CREATE ROLE "{user}_tenant" NOLOGIN; GRANT') as caught:
        prepare(owned)
    create, grant = str(caught.value).split("`")[1].split("; ")
    admin(settings, create)
    with pytest.raises(TenantRoleError, match="become the role"):
        prepare(owned)
    admin(settings, grant)
    prepare(owned)
    see_own_jobs(owned)


def test_databases_prepared_at_once_share_the_role_of_their_owner(settings: Settings, owned: Settings) -> None:
    user = username(owned)
    copies = [f"{user}_{number}" for number in range(2)]
    admin(settings, f"ALTER ROLE {user} CREATEROLE")
    admin(settings, *(f"CREATE DATABASE {copy} TEMPLATE {user} OWNER {user}" for copy in copies))
    all_three = [owned, *(connecting(settings, user, copy) for copy in copies)]
    try:
        with ThreadPoolExecutor(9) as pool:
            list(pool.map(ensure_tenant_role, [each.database_url for each in all_three * 3]))
        for each in all_three:
            see_own_jobs(each)
        # going back in one takes its rights away, and leaves the role to the others
        command.downgrade(alembic_config(owned.database_url), "0008")
        with pytest.raises(ProgrammingError, match="permission denied for table"):
            jobs_seen(owned, "acme")
        see_own_jobs(all_three[1])
        prepare(owned)
        see_own_jobs(owned)
    finally:
        admin(settings, *(f"DROP DATABASE {copy} WITH (FORCE)" for copy in copies))


def test_who_owns_one_database_enters_no_tenant_of_another(settings: Settings, owned: Settings) -> None:
    """Whoever owns a database may connect to the others of its server, unless somebody forbids it."""
    admin(settings, f"ALTER ROLE {username(owned)} CREATEROLE")
    prepare(owned)
    with pytest.raises(ProgrammingError, match="permission denied"):
        see_own_jobs(connecting(settings, username(owned), None))


def test_a_role_that_nothing_binds_is_refused(settings: Settings, owned: Settings) -> None:
    user = username(owned)
    admin(settings, f"CREATE ROLE {user}_tenant BYPASSRLS", f"GRANT {user}_tenant TO {user}")
    with pytest.raises(TenantRoleError, match="NOBYPASSRLS"):
        prepare(owned)


def test_a_backup_is_restored_under_another_owner(
    settings: Settings, owned: Settings, sessions: Sessions, tmp_path: Path
) -> None:
    """Rights do not travel with it: they are given anew."""
    fill(sessions, "acme")
    backup.save(settings, tmp_path / "saved")
    admin(settings, f"ALTER ROLE {username(owned)} CREATEROLE")
    backup.restore(owned.model_copy(update={"s3_bucket": f"{settings.s3_bucket}-fresh"}), tmp_path / "saved")
    restored = make_sessions(owned, name="test")
    for tenant in ("acme", "globex"):
        with TenantSessions(restored)(tenant)() as session:
            assert (count(session, "segments") > 0) == (tenant == "acme")
    restored.kw["bind"].dispose()


def test_making_the_role_again_changes_nothing(settings: Settings, sessions: Sessions) -> None:
    rights = text("SELECT relname, CAST(relacl AS text) FROM pg_class WHERE relacl IS NOT NULL ORDER BY 1")
    with sessions() as session:
        before = session.execute(rights).all()
    ensure_tenant_role(settings.database_url)
    with sessions() as session:
        assert session.execute(rights).all() == before
