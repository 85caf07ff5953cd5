"""What an API process knows of keys and tenants: a copy in memory, so that checking a key asks no database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from anyio import CapacityLimiter, to_thread
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.access.signers import Signers
from api.problems import storage_unavailable
from db.access import keys, links, signing
from db.access.links import OpenLink
from db.access.tenants import Limits, limits_of
from db.models import Priority, Scope, StoredKey, Tenant
from db.session import Sessions
from db.settings import Settings

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 0.4
"""Between two looks at what has changed: a revoked key is refused everywhere within a second."""

RELOAD_SECONDS = 60
"""Between two readings of everything, in case rows went or a backup came back."""

USE_SECONDS = 5.0
"""Between two writings of when keys were last used."""

ROTATION_SECONDS = 600.0
"""Between two looks at the age of the keys that sign tokens."""

NO_SIGNER_SECONDS = 5.0
"""The same where there is none."""

KNOWN_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is neither revoked nor expired when it is looked up."""

    id: uuid.UUID
    tenant: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    max_priority: Priority
    expires_at: datetime | None

    @classmethod
    def of(cls, row: StoredKey) -> KnownKey:
        scopes = KNOWN_SCOPES & {Scope(name) for name in row.scopes if name in KNOWN_SCOPES}
        return cls(row.id, row.tenant, row.name, row.prefix, scopes, row.max_priority, row.expires_at)

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


@dataclass(slots=True)
class Contents:
    """The copy."""

    revision: int
    ids: dict[bytes, uuid.UUID]
    keys: dict[uuid.UUID, KnownKey]
    tenants: dict[str, Tenant]
    any_keys: bool
    """Whether there ever was a key in the database."""
    tenants_with_keys: frozenset[str] = frozenset()

    def update(self, rows: Sequence[StoredKey], tenants: Sequence[Tenant]) -> None:
        for row in rows:
            self.any_keys = True
            self.revision = max(self.revision, row.revision)
            if row.revoked_at is None:
                self.ids[row.digest], self.keys[row.id] = row.id, KnownKey.of(row)
            else:
                self.ids.pop(row.digest, None)
                self.keys.pop(row.id, None)
        if rows:
            self.tenants_with_keys = frozenset(key.tenant for key in self.keys.values())
        for tenant in tenants:
            self.revision = max(self.revision, tenant.revision)
            self.tenants[tenant.name] = tenant


class Directory:
    """Refreshed by the process's event loop. While Postgres is away, what is known holds."""

    def __init__(self, sessions: Sessions, signers: Signers, settings: Settings) -> None:
        self._sessions, self.signers, self._settings = sessions, signers, settings
        self._contents: Contents | None = None
        self._uses: dict[uuid.UUID, datetime] = {}
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        # threads of its own: revocations never wait behind requests
        self._threads = CapacityLimiter(2)
        # nor do requests wait behind guesses at links
        self._link_threads = CapacityLimiter(2)

    async def start(self) -> None:
        await self._rotate_signing_keys()
        await self._refresh(everything=True)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._write_uses()

    @property
    def loaded(self) -> bool:
        """Whether it is known which keys there are."""
        return self._contents is not None

    @property
    def any_keys(self) -> bool:
        """Whether there ever was a key: then callers are asked for one, also when the last is revoked."""
        return self._contents is not None and self._contents.any_keys

    def find_key(self, digest: bytes) -> KnownKey | None:
        """The valid key with this SHA-256."""
        found = None if self._contents is None else self._contents.ids.get(digest)
        return None if found is None else self.key(found)

    def key(self, key_id: uuid.UUID) -> KnownKey | None:
        """The valid key with this id."""
        found = None if self._contents is None else self._contents.keys.get(key_id)
        return None if found is None or found.expired else found

    async def find_link(self, secret: str) -> OpenLink | None:
        """The link with this secret, if it works. Asked of Postgres each time: few requests come by one. Raises
        Problem while Postgres is away."""

        def find() -> OpenLink | None:
            with self._sessions() as session:
                return links.find(session, secret)

        try:
            return await to_thread.run_sync(find, limiter=self._link_threads)
        except SQLAlchemyError as error:
            logger.warning("a link could not be looked up: %s", error)
            raise storage_unavailable() from error

    def tenant(self, name: str) -> Tenant | None:
        """The tenant's row. Detached: not to be changed."""
        return None if self._contents is None else self._contents.tenants.get(name)

    def limits(self, tenant: str) -> Limits:
        """What the tenant may use, as of half a second ago."""
        return limits_of(self.tenant(tenant), tenant, self._settings, shared=self.shared)

    @property
    def tenants_with_keys(self) -> frozenset[str]:
        """Those with a key in the database that is not revoked."""
        return frozenset() if self._contents is None else self._contents.tenants_with_keys

    @property
    def shared(self) -> bool:
        """Whether several tenants use the server, so that none may take the whole of what is bounded."""
        return len(self._settings.bootstrap_tenants | self.tenants_with_keys) > 1

    def note_use(self, key_id: uuid.UUID) -> None:
        self._uses[key_id] = datetime.now(UTC)

    async def refresh(self) -> None:
        """Take up what has changed, now."""
        await self._refresh(everything=self._contents is None)

    async def _run(self) -> None:
        reloaded = written = rotated = time.monotonic()
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            now = time.monotonic()
            try:
                everything = now - reloaded > RELOAD_SECONDS or self._contents is None
                if await self._refresh(everything=everything) and everything:
                    reloaded = now
                if now - rotated > (NO_SIGNER_SECONDS if self.signers.current() is None else ROTATION_SECONDS):
                    rotated = now
                    await self._rotate_signing_keys()
                if now - written > USE_SECONDS:
                    written = now
                    await self._write_uses()
            except Exception:
                # whatever it was: who looks no more sees no revocation
                logger.exception("keys and tenants could not be refreshed")

    async def _refresh(self, *, everything: bool) -> bool:
        try:
            # one after another: of two at once the slower would bring back what the other saw revoked
            async with self._turn:
                known = None if everything else self._contents
                self._contents = await to_thread.run_sync(self._read, known, limiter=self._threads)
        except SQLAlchemyError as error:
            logger.warning("keys and tenants could not be read: %s", error)
            return False
        return True

    def _read(self, known: Contents | None) -> Contents:
        with self._sessions() as session:
            # one snapshot: a tenant's change, read later, would hide that of a key which came before it
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            if known is None:
                known = Contents(0, {}, {}, {}, any_keys=False)
            # what the process reads meanwhile changes by single assignments, each of which is whole
            known.update(keys.changed_since(session, known.revision), _tenants_since(session, known.revision))
            self.signers.update(signing.known(session))
        return known

    async def _rotate_signing_keys(self) -> None:
        def rotate() -> None:
            with self._sessions.begin() as session:
                signing.rotate(
                    session,
                    self.signers.seal,
                    after=timedelta(days=self._settings.token_key_days),
                    token_seconds=self._settings.token_seconds,
                )

        try:
            await to_thread.run_sync(rotate, limiter=self._threads)
        except SQLAlchemyError as error:
            logger.warning("signing keys could not be rotated: %s", error)

    async def _write_uses(self) -> None:
        uses, self._uses = self._uses, {}
        if not uses:
            return

        def write() -> None:
            with self._sessions.begin() as session:
                keys.note_uses(session, uses)

        try:
            await to_thread.run_sync(write, limiter=self._threads)
        except SQLAlchemyError as error:
            self._uses = uses | self._uses
            logger.warning("uses of keys could not be written: %s", error)


def _tenants_since(session: Session, revision: int) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).where(Tenant.revision > revision)).all()
