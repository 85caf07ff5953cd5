"""What tenants name, each name once: making it, and changing its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from api.dependencies import Services
from api.problems import Problem, too_many
from db import library
from db.models import Collection, SavedSearch


@contextmanager
def naming(what: str, name: str) -> Iterator[None]:
    """A block that gives something its name, and writes it. Raises Problem if another one has it."""
    try:
        yield
    except IntegrityError as error:
        detail = f"There is a {what} {name!r} already; choose another name, or delete or rename that one first."
        raise Problem(409, f"{what}_exists", f"{what.capitalize()} exists", detail) from error


def insert(services: Services, made: Collection | SavedSearch, what: str, plural: str, most: int) -> None:
    """Keep something new, of which its tenant has ``most``. Raises Problem."""
    with naming(what, made.name), services.for_tenant(made.tenant).begin() as session:
        if (held := library.held(session, made.tenant, type(made))) >= most:
            raise too_many(plural, held)
        session.add(made)
        session.flush()
        session.refresh(made)
