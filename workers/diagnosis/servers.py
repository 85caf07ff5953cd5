"""Postgres with its migrations, Redis, S3, and their clocks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from alembic.script import ScriptDirectory
from botocore.exceptions import ClientError
from redis.exceptions import RedisError
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.events.bus import Bus
from db.objects.storage import Storage, StorageError
from db.prepare import alembic_config
from db.session import TIMEOUTS, make_sessions
from db.settings import Settings
from workers.diagnosis.finding import Finding, broken, ok, warning

CLOCK_SECONDS = 5.0
"""A difference beyond which times in logs, leases and expiries can no longer be compared."""

S3_CLOCK_SECONDS = 600.0
"""S3 refuses requests that were signed a quarter of an hour ago."""

MOST_CONNECTIONS = 0.8
"""Part of all that may be open before somebody should look."""

PREPARE = "Run `python -m db.prepare` (`longhand up` does)."


def check_postgres(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.database_url)
    where = f"{url.host}:{url.port or 5432}/{url.database}"
    sessions = make_sessions(settings, name="doctor")
    try:
        with sessions() as session:
            version = session.scalar(text("SHOW server_version"))
            began = time.time()
            now = float(session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
            yield ok("postgres", f"{version} at {where}")
            yield _clock("clock of postgres", now - (began + time.time()) / 2, most=60.0)
            yield from _connections(session, settings)
            migrated = session.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
            at = session.scalar(text("SELECT version_num FROM alembic_version")) if migrated else None
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        advice = "Start it, or correct LONGHAND_DATABASE_URL."
        yield broken("postgres", f"does not answer at {where}: {reason}", advice)
        return
    finally:
        sessions.kw["bind"].dispose()
    yield _migrations(settings, at)


def _connections(session: Session, settings: Settings) -> Iterator[Finding]:
    """Whether there are enough, and whether a pool in between keeps the timeouts from Postgres."""
    used = session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) or 0
    most = int(session.scalar(text("SHOW max_connections")) or 0)
    found = f"{used} of {most} are open, and each process may hold {settings.database_pool}"
    advice = "Raise max_connections of PostgreSQL, or put PgBouncer before it (docs/scaling.md)."
    yield warning("connections", found, advice) if used > MOST_CONNECTIONS * most else ok("connections", found)
    if unset := [name for name in TIMEOUTS if session.scalar(text(f"SHOW {name}")) == "0"]:
        advice = "Have PgBouncer set them by connect_query, as docker/pgbouncer.ini does."
        yield warning("timeouts", f"{', '.join(unset)} do not reach PostgreSQL", advice)


def _migrations(settings: Settings, at: str | None) -> Finding:
    scripts = ScriptDirectory.from_config(alembic_config(settings.database_url))
    head = scripts.get_current_head()
    if at == head:
        return ok("migrations", f"at {head}, the newest")
    known = {script.revision for script in scripts.walk_revisions()}
    if at is not None and at not in known:
        return broken(
            "migrations", f"at {at}, which this version does not know", "Run the newer version here too."
        )
    return broken("migrations", f"at {at or 'none'}, and {head} is the newest", PREPARE)


def check_redis(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.redis_url)
    bus = Bus(settings)
    try:
        version = bus.redis.info("server").get("redis_version")
        yield ok("redis", f"{version} at {url.host}:{url.port or 6379}")
    except RedisError as error:
        advice = "Start it, or correct LONGHAND_REDIS_URL. Meanwhile nothing is lost."
        yield broken("redis", f"does not answer at {url.host}:{url.port or 6379}: {error}", advice)
    finally:
        bus.redis.close()


def check_s3(settings: Settings) -> Iterator[Finding]:
    """Writes an object, reads it, and removes it again."""
    where = f"{settings.s3_bucket} at {settings.s3_endpoint or 'AWS'}"
    key = f"doctor/{uuid.uuid4()}"
    try:
        storage = Storage(settings)
        began = time.time()
        answer = storage.client.head_bucket(Bucket=storage.bucket)
        middle = (began + time.time()) / 2
        storage.put(key, b"doctor", "application/octet-stream")
        intact = storage.get(key) == b"doctor"
        storage.delete([key])
    except FileNotFoundError as error:
        yield broken("s3", str(error), "Correct it, or unset it.")
        return
    except StorageError as error:
        yield _s3_failure(where, error)
        return
    if intact:
        yield ok("s3", f"{where}: writes, reads and deletes")
    else:
        yield broken("s3", f"{where} gives back something else than was written", "Look at the server's log.")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is not None:
        # it has whole seconds
        ahead = parsedate_to_datetime(date).timestamp() + 0.5 - middle
        yield _clock("clock of s3", ahead, most=S3_CLOCK_SECONDS)


def _s3_failure(where: str, error: Exception) -> Finding:
    response = error.response if isinstance(error, ClientError) else {}
    match response.get("ResponseMetadata", {}).get("HTTPStatusCode"):
        case 404:
            return broken("s3", f"there is no bucket {where}", PREPARE)
        case 403:
            advice = "Correct LONGHAND_S3_ACCESS_KEY and LONGHAND_S3_SECRET_KEY, the key's policy, or this clock."
            return broken("s3", f"access to {where} is denied", advice)
        case _:
            advice = "Start it, or correct LONGHAND_S3_ENDPOINT."
            return broken("s3", f"{where} does not answer: {error}", advice)


def _clock(check: str, ahead: float, *, most: float) -> Finding:
    """``ahead``: seconds that the server's clock is before ours."""
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    advice = "Have both set their clocks by NTP."
    if abs(ahead) > most:
        return broken(check, found, advice)
    return warning(check, found, advice) if abs(ahead) > CLOCK_SECONDS else ok(check, "like this machine's")
