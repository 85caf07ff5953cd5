"""The role that sessions of a tenant become, and its rights on this database's tables.

Roles belong to the server and not to a database: neither migrations nor backups carry this one, and it is made and
given its rights after both.
"""

from __future__ import annotations

from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from db.tenancy import ROLE

LOCK = 0x10A6_4A9E
"""Key of the advisory lock: an arbitrary constant."""

RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
OTHER_RIGHTS = {
    # rows that are never changed
    "usage": "SELECT, INSERT",
    "audit": "SELECT, INSERT",
    "erasures": "SELECT, INSERT",
    "withdrawals": "SELECT",
    # what a tenant may use is not up to itself, and what it keeps is counted by a trigger
    "tenants": "SELECT",
    "stored_bytes": "SELECT",
    "lanes": "SELECT",
    "api_keys": "SELECT, INSERT, UPDATE",
    # goes with its passages
    "meanings": "SELECT",
}
"""On which rows, the policies say. A table without one belongs to no tenant, and is out of the role's reach."""

VIEWS = ("own_passages",)
"""What may be read of views, which show each tenant its own rows."""

EXISTS = "SELECT FROM pg_roles WHERE rolname = :role"
MAY_BECOME = """
    SELECT FROM pg_roles WHERE rolname = :role AND pg_has_role(
        oid, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    )
"""
IS_BOUND = "SELECT FROM pg_roles WHERE rolname = :role AND NOT (rolsuper OR rolbypassrls)"
ELSEWHERE = """
    SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
    WHERE extname = 'vector' AND nspname <> current_schema
"""


class TenantRoleError(Exception):
    """The role cannot be had. The message says what to do."""


def ensure_tenant_role(database_url: str) -> None:
    """Make the role, let its user become it, and give it its rights. Idempotent. Raises TenantRoleError.

    Several processes may run it at once, on one database or on several of a server.
    """
    engine = create_engine(database_url, poolclass=pool.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        names = text(f"SELECT {ROLE}, current_user FROM pg_class WHERE oid = 'jobs'::regclass")  # noqa: S608
        role, user = connection.execute(names).one()
        statements = f"CREATE ROLE {_quoted(role)} NOLOGIN", f"GRANT {_quoted(role)} TO {_quoted(user)}"
        try:
            for query, statement in zip((EXISTS, MAY_BECOME), statements, strict=True):
                _ensure(connection, role, query, statement)
        except ProgrammingError as error:
            raise TenantRoleError(
                f"The database user {user!r} may not make or become the role {role!r}, which keeps tenants apart. "
                f"Have an administrator of PostgreSQL run `{'; '.join(statements)};`, then run this again."
            ) from error
        if not _holds(connection, IS_BOUND, role):
            raise TenantRoleError(
                f"The role {role!r} has SUPERUSER or BYPASSRLS, so nothing would keep tenants apart. Have an "
                f"administrator of PostgreSQL run `ALTER ROLE {_quoted(role)} NOSUPERUSER NOBYPASSRLS;`."
            )
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        _grant_rights(connection, _quoted(role))


def _ensure(connection: Connection, role: str, query: str, statement: str) -> None:
    """Run the statement unless the query has a row already. Raises ProgrammingError where the user may not."""
    if not _holds(connection, query, role):
        try:
            _run(connection, statement)
        except DBAPIError:
            # another process, for another database of the server, may just have done the same
            if not _holds(connection, query, role):
                raise


def _holds(connection: Connection, query: str, role: str) -> bool:
    return connection.execute(text(query), {"role": role}).first() is not None


def _grant_rights(connection: Connection, role: str) -> None:
    schema = _quoted(str(connection.scalar(text("SELECT current_schema"))))
    _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    # pgvector's types and operators may be in one of their own
    for other in connection.scalars(text(ELSEWHERE)).all():
        _run(connection, f"GRANT USAGE ON SCHEMA {_quoted(other)} TO {role}")
    # a backup of an older schema has neither policies nor this sequence, nor views
    if connection.scalar(text("SELECT to_regclass('access_revision')")) is not None:
        _run(connection, f"GRANT USAGE ON SEQUENCE access_revision TO {role}")
    scoped = "SELECT DISTINCT tablename FROM pg_policies WHERE schemaname = current_schema"
    for table in connection.scalars(text(scoped)).all():
        _run(connection, f"REVOKE ALL ON {_quoted(table)} FROM {role}")
        _run(connection, f"GRANT {OTHER_RIGHTS.get(table, RIGHTS)} ON {_quoted(table)} TO {role}")
    for view in VIEWS:
        if connection.scalar(text("SELECT to_regclass(:view)"), {"view": view}) is not None:
            _run(connection, f"GRANT SELECT ON {_quoted(view)} TO {role}")


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement.replace(":", r"\:")))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
