"""Which personal data is left out of a job's transcript, and whether what was said is kept, encrypted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from db.access import tenants
from db.models import Json, Tenant
from db.settings import Settings


@dataclass(frozen=True, slots=True)
class Redaction:
    """``kinds`` are values of ``speech.text.redaction.kinds.PersonalData``; without any, nothing is left out."""

    kinds: frozenset[str]
    keep_original: bool


def of_job(session: Session, tenant: str, options: Json, settings: Settings) -> Redaction:
    """What the tenant's row says, else the settings; and the kinds that the job asks for besides."""
    return of_row(tenants.get(session, tenant), options, settings)


def of_row(row: Tenant | None, options: Json, settings: Settings) -> Redaction:
    """The same, for who has the tenant's row, if there is one."""
    kinds = settings.redact if row is None or row.redact is None else row.redact
    keep = settings.keep_original if row is None or row.keep_original is None else row.keep_original
    return Redaction(frozenset(kinds) | frozenset(options.get("redact") or ()), keep)
