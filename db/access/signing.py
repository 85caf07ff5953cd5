"""Keys that sign tokens: made before they are used, so that every process knows them by then."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from db.models import SigningKey

OVERLAP = timedelta(minutes=15)
"""How long an old key may go on signing: well beyond the announcement of its successor."""


def known(session: Session) -> Sequence[SigningKey]:
    """All keys, the oldest first."""
    return session.scalars(select(SigningKey).order_by(SigningKey.created_at, SigningKey.kid)).all()


def rotate(session: Session, seal: Callable[[bytes], bytes], *, after: timedelta, token_seconds: float) -> None:
    """Make a key where there is none that is younger than ``after``; forget those whose last token has expired.

    One process at a time decides.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("signing keys", 0))))
    young = select(SigningKey.kid).where(
        SigningKey.retired_at.is_(None), SigningKey.created_at > func.now() - after
    )
    if session.scalar(select(~young.exists())):
        session.execute(
            update(SigningKey).where(SigningKey.retired_at.is_(None)).values(retired_at=func.now() + OVERLAP)
        )
        key = Ed25519PrivateKey.generate().private_bytes_raw()
        session.add(SigningKey(kid=secrets.token_urlsafe(12), private_key=seal(key)))
    forgotten = func.now() - timedelta(seconds=2 * token_seconds)
    session.execute(delete(SigningKey).where(SigningKey.retired_at < forgotten))
