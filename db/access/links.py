"""Links: credentials for the transcript of one job. The secret is shown once and stored nowhere."""

from __future__ import annotations

import math
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from db.access.keys import SECRET_BYTES, digest_of
from db.models import Job, Link

MARK = "lhl_"
"""Every link's secret begins with it: by that it is told from keys and tokens."""

SECRET = re.compile(rf"{MARK}[A-Za-z0-9_-]{{{math.ceil(SECRET_BYTES * 4 / 3)}}}")

MOST_OF_A_JOB = 100


@dataclass(frozen=True, slots=True)
class OpenLink:
    """A link that works."""

    id: uuid.UUID
    tenant: str
    job_id: uuid.UUID
    audio: bool
    created_by: str
    key_id: uuid.UUID | None
    expires_at: datetime


def create(
    session: Session, job: Job, *, audio: bool, created_by: str, key_id: uuid.UUID | None, expires_at: datetime
) -> tuple[Link, str]:
    """Insert a link; returns its row and the secret."""
    secret = MARK + secrets.token_urlsafe(SECRET_BYTES)
    link = Link(
        id=uuid.uuid4(),
        tenant=job.tenant,
        job_id=job.id,
        digest=digest_of(secret),
        audio=audio,
        created_by=created_by,
        key_id=key_id,
        expires_at=expires_at,
    )
    session.add(link)
    session.flush()
    session.refresh(link)
    return link, secret


def count(session: Session, job: Job) -> int:
    """How many links the job has, one transaction at a time. Where there is no room, those that have ended go."""
    session.execute(select(Job.id).where(Job.id == job.id).with_for_update(key_share=True))
    here = Link.job_id == job.id
    held = select(func.count()).select_from(Link).where(here)
    if session.scalars(held).one() >= MOST_OF_A_JOB:
        session.execute(delete(Link).where(here, or_(Link.revoked_at.is_not(None), Link.expires_at <= func.now())))
    return session.scalars(held).one()


def of_job(session: Session, job_id: uuid.UUID) -> Sequence[Link]:
    """Newest first, those that have ended among them."""
    return session.scalars(
        select(Link).where(Link.job_id == job_id).order_by(Link.created_at.desc(), Link.id)
    ).all()


def revoke(session: Session, job_id: uuid.UUID, link_id: uuid.UUID) -> bool:
    """Whether there is such a link; one that was revoked before stays as it is."""
    found = session.scalar(select(Link.id).where(Link.id == link_id, Link.job_id == job_id))
    session.execute(update(Link).where(Link.id == found, Link.revoked_at.is_(None)).values(revoked_at=func.now()))
    return found is not None


def find(session: Session, secret: str) -> OpenLink | None:
    """The link with this secret, across tenants: neither revoked nor expired, and of a job that is there."""
    link = session.scalar(
        select(Link)
        .join(Job, Job.id == Link.job_id)
        .where(
            Link.digest == digest_of(secret),
            Link.revoked_at.is_(None),
            Link.expires_at > func.now(),
            Job.deleted_at.is_(None),
        )
    )
    if link is None:
        return None
    return OpenLink(link.id, link.tenant, link.job_id, link.audio, link.created_by, link.key_id, link.expires_at)
