"""What a tenant may use: its row of ``tenants``, and the settings where the row says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from db.access.revisions import next_revision
from db.models import StoredKey, Tenant
from db.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that hold for a tenant; None is no limit. Named like the columns of ``tenants``."""

    audio_hours_month: float | None
    """Hours of recordings cut since the month began, in UTC."""
    stored_bytes: int | None
    """Of recordings."""
    jobs_at_once: int | None
    """Recordings that wait or are in work."""
    requests_per_minute: int | None
    event_streams: int | None
    uploads_at_once: int
    """In one process of the API."""
    steps_at_once: int | None
    """Of one kind, in work."""

    @property
    def counted(self) -> bool:
        """Whether there is any that is counted in Postgres."""
        return (self.audio_hours_month, self.stored_bytes, self.jobs_at_once) != (None, None, None)


def limits_of(row: Tenant | None, name: str, settings: Settings, *, shared: bool = False) -> Limits:
    """The limits of the tenant ``name``, whose row this is. ``shared``: others use the server too."""
    shares = settings.tenant_limits

    def either(column: str, default: Any) -> Any:
        own = None if row is None else getattr(row, column)
        return default if own is None else own

    return Limits(
        audio_hours_month=either("audio_hours_month", settings.tenant_audio_hours),
        stored_bytes=either("stored_bytes", settings.tenant_stored_bytes),
        jobs_at_once=either("jobs_at_once", settings.tenant_jobs_at_once),
        requests_per_minute=either("requests_per_minute", settings.tenant_requests_per_minute),
        event_streams=either("event_streams", settings.tenant_event_streams),
        uploads_at_once=min(
            either("uploads_at_once", settings.tenant_upload_slots(shared=shared)), settings.max_uploads
        ),
        steps_at_once=either("steps_at_once", shares.get(name, shares.get("*"))),
    )


def limits(session: Session, name: str, settings: Settings) -> Limits:
    """The limits of a tenant, as its row says now."""
    return limits_of(get(session, name), name, settings)


def get(session: Session, name: str) -> Tenant | None:
    """The tenant's row. A tenant without one has what the settings say."""
    return session.get(Tenant, name)


def names(session: Session, known: Sequence[str], *, limit: int, after: str = "") -> Sequence[str]:
    """Up to ``limit`` names behind ``after``: of tenants with a row or a key, and of those ``known`` besides."""
    others = select(func.unnest(cast(list(known), ARRAY(Text))))
    found = select(Tenant.name).union(select(StoredKey.tenant), others).subquery()
    return session.scalars(
        select(found.c.name).where(found.c.name > after).order_by(found.c.name).limit(limit)
    ).all()


def change(session: Session, name: str, values: Mapping[str, Any]) -> Tenant:
    """Set columns of the tenant's row, which is made if there is none; None leaves them to the settings."""
    written = dict(values) | {"updated_at": func.now(), "revision": next_revision(session)}
    statement = insert(Tenant).values(name=name, **written)
    changed = session.scalars(
        statement.on_conflict_do_update(index_elements=[Tenant.name], set_=written).returning(Tenant),
        execution_options={"populate_existing": True},
    )
    return changed.one()
