"""Sessions that see one tenant's rows alone, whatever they ask for: policies of the tables hold them to it.

At the beginning of each transaction such a session becomes a role that the policies of the tables apply to, and
says which tenant it works for. Both end with the transaction, so a pooled connection takes nothing to the next.
"""

from __future__ import annotations

from copy import copy

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from db.session import Sessions

ROLE = "CAST(left(CAST(pg_get_userbyid(relowner) AS text), 48) || '_tenant' AS name)"
"""SQL of the role's name, in a query on ``pg_class``. Roles belong to the server: it is named after the owner of
the tables, so that whoever owns another database there cannot become it."""

ENTER = text(
    f"SELECT set_config('role', CAST({ROLE} AS text), true), set_config('longhand.tenant', :tenant, true) "  # noqa: S608
    "FROM pg_class WHERE oid = 'jobs'::regclass"
)


class TenantSession(Session):
    """A session whose ``info`` names its tenant."""


@event.listens_for(TenantSession, "after_begin")
def _enter(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        connection.execute(ENTER, {"tenant": session.info["tenant"]})


class TenantSessions:
    """Session factories for one tenant each, over the connections of a factory for all."""

    def __init__(self, across_tenants: Sessions) -> None:
        self._sessions: Sessions = sessionmaker(class_=TenantSession, **across_tenants.kw)

    def __call__(self, tenant: str) -> Sessions:
        # a copy: each new sessionmaker would define a class
        scoped = copy(self._sessions)
        scoped.kw = self._sessions.kw | {"info": {"tenant": tenant}}
        return scoped
