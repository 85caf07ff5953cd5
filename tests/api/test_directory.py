"""What a process knows of keys and tenants, while both change, and while reading them goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from anyio import to_thread

from api.access import directory as module
from api.access.directory import Directory
from api.access.signers import Signers
from db.access import keys, tenants
from db.access.keys import digest_of
from db.models import Priority, Scope, StoredKey
from db.secrets import Secrets
from db.session import Sessions
from db.settings import Settings
from tests.waiting import LIMIT_SECONDS


def make(sessions: Sessions) -> tuple[StoredKey, bytes]:
    with sessions.begin() as session:
        row, key = keys.create(
            session,
            tenant="acme",
            name="ci",
            scopes={Scope.JOBS_READ},
            max_priority=Priority.NORMAL,
            expires_at=None,
        )
    return row, digest_of(key)


def revoke(sessions: Sessions, row: StoredKey) -> None:
    with sessions.begin() as session:
        keys.end(session, row.id)


@pytest.fixture
def directory(settings: Settings, sessions: Sessions) -> Directory:
    return Directory(sessions, Signers(Secrets(settings)), settings)


def test_a_tenants_change_hides_no_revocation(
    directory: Directory, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are committed while a refresh has read the keys and not yet the tenants."""
    row, digest = make(sessions)
    asyncio.run(directory.refresh())
    assert directory.find_key(digest) is not None
    read = module._tenants_since

    def meanwhile(*arguments: Any) -> Any:
        revoke(sessions, row)
        with sessions.begin() as session:
            tenants.change(session, "acme", {"jobs_at_once": 1})
        return read(*arguments)

    monkeypatch.setattr(module, "_tenants_since", meanwhile)
    asyncio.run(directory.refresh())
    monkeypatch.undo()
    asyncio.run(directory.refresh())
    assert directory.find_key(digest) is None
    assert directory.tenant("acme") is not None


def test_a_slow_refresh_brings_no_revoked_key_back(
    directory: Directory, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is made, a slow refresh reads it, it is revoked, and a second refresh begins."""
    asyncio.run(directory.refresh())
    row, digest = make(sessions)
    has_read, go_on = threading.Event(), threading.Event()
    read = keys.changed_since

    def slow(*arguments: Any) -> Any:
        found = read(*arguments)
        if not has_read.is_set():
            has_read.set()
            assert go_on.wait(LIMIT_SECONDS)
        return found

    monkeypatch.setattr(keys, "changed_since", slow)

    async def both() -> None:
        first = asyncio.create_task(directory.refresh())
        await asyncio.to_thread(has_read.wait, LIMIT_SECONDS)
        await asyncio.to_thread(revoke, sessions, row)
        second = asyncio.create_task(directory.refresh())
        # time for the second to overtake, if it can
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(second), 0.3)
        go_on.set()
        await asyncio.gather(first, second)

    asyncio.run(both())
    assert directory.find_key(digest) is None


@pytest.fixture
def broken_once(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once reading keys has failed in a way that nobody foresaw; later readings work."""
    failed, read = threading.Event(), keys.changed_since

    def breaking(session: Any, revision: int) -> Any:
        if revision and not failed.is_set():
            failed.set()
            raise LookupError("a priority of a newer version")
        return read(session, revision)

    monkeypatch.setattr(keys, "changed_since", breaking)
    return failed


def test_no_failure_ends_the_refreshing(
    directory: Directory, sessions: Sessions, broken_once: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    row, digest = make(sessions)

    async def run() -> None:
        await directory.start()
        assert directory.find_key(digest) is not None
        await asyncio.to_thread(broken_once.wait, LIMIT_SECONDS)
        await asyncio.to_thread(revoke, sessions, row)
        async with asyncio.timeout(LIMIT_SECONDS / 10):
            while directory.find_key(digest) is not None:
                await asyncio.sleep(0.02)
        await directory.stop()

    asyncio.run(run())
    assert "a priority of a newer version" in caplog.text


def test_refreshing_waits_for_no_thread_of_requests(directory: Directory, sessions: Sessions) -> None:
    """All threads that endpoints share are held by requests that wait for something."""
    row, digest = make(sessions)

    async def run() -> None:
        await directory.start()
        shared = to_thread.current_default_thread_limiter()
        held = [object() for _ in range(int(shared.total_tokens))]
        for request in held:
            shared.acquire_on_behalf_of_nowait(request)
        await asyncio.to_thread(revoke, sessions, row)
        try:
            async with asyncio.timeout(LIMIT_SECONDS / 10):
                while directory.find_key(digest) is not None:
                    await asyncio.sleep(0.02)
        finally:
            for request in held:
                shared.release_on_behalf_of(request)
            await directory.stop()

    asyncio.run(run())
