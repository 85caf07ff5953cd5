"""TLS to Postgres, Redis and S3 by settings alone: the right authority serves, any other is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import SSLError
from flower.utils.broker import Broker
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import OperationalError

from api.events import Hub
from db.backup import BackupError, run_client, save
from db.events.bus import Bus
from db.objects.storage import Storage
from db.session import Sessions, make_sessions
from db.settings import Settings
from tasks.queue import make_app
from tests.conftest import Servers
from tests.tls import HOST, Authority, TlsProxy

Secure = Callable[..., TlsProxy]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "right")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "wrong")


@pytest.fixture
def proxies() -> Iterator[list[TlsProxy]]:
    opened: list[TlsProxy] = []
    yield opened
    for proxy in opened:
        proxy.close()


@pytest.fixture
def secure(proxies: list[TlsProxy], authority: Authority) -> Secure:
    def put_before(port: int, name: str = f"IP:{HOST}", *, postgres: bool = False) -> TlsProxy:
        proxies.append(TlsProxy(port, authority.context(name), postgres=postgres))
        return proxies[-1]

    return put_before


def with_redis(settings: Settings, proxy: TlsProxy, **query: str) -> Settings:
    url = make_url(settings.redis_url).set(drivername="rediss", port=proxy.port, query=query)
    return settings.model_copy(update={"redis_url": url.render_as_string(hide_password=False)})


def connect_celery(settings: Settings) -> None:
    with make_app(settings).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)


def queues_in_flower(settings: Settings) -> list[dict[str, object]]:
    """As its page of the broker asks, with what the Celery application says of TLS."""
    app = make_app(settings)
    broker = Broker(
        app.connection().as_uri(include_password=True),
        broker_options=app.conf.broker_transport_options,
        broker_use_ssl=app.conf.broker_use_ssl,
    )
    return list(asyncio.run(broker.queues(["cpu"])))


def hears_the_bus(settings: Settings, sessions: Sessions) -> bool:
    """Whether the streams of an API subscribe to events within a try or two."""

    class Heard(Hub):
        def _resync_all(self) -> None:
            heard.set()

    heard = asyncio.Event()

    async def listen() -> bool:
        hub = Heard(settings, sessions)
        await hub.start()
        try:
            async with asyncio.timeout(3):
                await heard.wait()
        except TimeoutError:
            return False
        finally:
            await hub.stop()
        return True

    return asyncio.run(listen())


def test_redis_under_the_right_authority(
    settings: Settings, servers: Servers, sessions: Sessions, secure: Secure, authority: Authority
) -> None:
    proxy = secure(servers.redis.port)
    secured = with_redis(settings, proxy, ssl_ca_certs=str(authority.certificate))
    Bus(secured).ping()
    connect_celery(secured)
    assert queues_in_flower(secured) == [{"name": "cpu", "messages": 0}]
    assert hears_the_bus(secured, sessions)
    asked = with_redis(settings, proxy, ssl_ca_certs=str(authority.certificate), ssl_cert_reqs="required")
    Bus(asked).ping()
    connect_celery(asked)


@pytest.mark.parametrize("fault", ["another authority", "no authority named", "another name"])
def test_redis_that_cannot_prove_itself(
    settings: Settings,
    servers: Servers,
    sessions: Sessions,
    secure: Secure,
    authority: Authority,
    other: Authority,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy = secure(servers.redis.port, "DNS:elsewhere.example" if fault == "another name" else f"IP:{HOST}")
    trusted = {
        "another authority": {"ssl_ca_certs": str(other.certificate)},
        "no authority named": {},
        "another name": {"ssl_ca_certs": str(authority.certificate)},
    }[fault]
    secured = with_redis(settings, proxy, **trusted)
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        Bus(secured).ping()
    with pytest.raises(BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
        connect_celery(secured)
    with pytest.raises(RedisConnectionError):
        queues_in_flower(secured)
    with caplog.at_level(logging.WARNING, logger="api.events"):
        assert not hears_the_bus(secured, sessions)
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert proxy.passed_on == 0


def test_s3(settings: Settings, servers: Servers, secure: Secure, authority: Authority, other: Authority) -> None:
    proxy = secure(servers.s3.port)

    def storage(ca_bundle: Path | None) -> Storage:
        secured = {"s3_endpoint": f"https://{HOST}:{proxy.port}", "s3_ca_bundle": ca_bundle}
        return Storage(settings.model_copy(update=secured))

    for wrong in (other.certificate, None):
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            storage(wrong).ping()
    with pytest.raises(FileNotFoundError, match="LONGHAND_S3_CA_BUNDLE"):
        storage(Path("/nowhere.pem"))
    assert proxy.passed_on == 0
    storage(authority.certificate).put("key", b"data", "text/plain")
    assert Storage(settings).get("key") == b"data"


def database_url(settings: Settings, proxy: TlsProxy, authority: Authority) -> URL:
    query = {"sslmode": "verify-full", "sslrootcert": str(authority.certificate)}
    return make_url(settings.database_url).set(port=proxy.port).update_query_dict(query)


def with_database(settings: Settings, url: URL) -> Settings:
    return settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})


def one(settings: Settings) -> int:
    sessions = make_sessions(settings, name="tls")
    try:
        with sessions() as session:
            return int(session.execute(text("SELECT 1")).scalar_one())
    finally:
        sessions.kw["bind"].dispose()


def test_postgres(
    settings: Settings, servers: Servers, secure: Secure, authority: Authority, other: Authority
) -> None:
    proxy = secure(servers.postgres.port, postgres=True)
    misnamed = secure(servers.postgres.port, "DNS:elsewhere.example", postgres=True)
    for url in (database_url(settings, proxy, other), database_url(settings, misnamed, authority)):
        with pytest.raises(OperationalError, match="certificate"):
            one(with_database(settings, url))
    assert (proxy.passed_on, misnamed.passed_on) == (0, 0)
    assert one(with_database(settings, database_url(settings, proxy, authority))) == 1


def test_a_backup_asks_for_the_same_proof(
    settings: Settings,
    servers: Servers,
    secure: Secure,
    authority: Authority,
    other: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The programs of the wheel know no TLS: without others a backup fails, and sends nothing in plain."""
    proxy = secure(servers.postgres.port, postgres=True)
    with pytest.raises(BackupError, match="certificate"):
        save(with_database(settings, database_url(settings, proxy, other)), tmp_path / "saved")
    url = database_url(settings, proxy, authority)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match=r"pg_dump failed: .*sslmode"):
        save(with_database(settings, url), tmp_path / "saved")
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD" "$@" >&2; exit 1\n')
    program.chmod(0o700)
    # of what the URL says, the program gets what it knows
    secured = with_database(settings, url.update_query_dict({"prepare_threshold": "5"}))
    with pytest.raises(BackupError) as failed:
        run_client("pg_dump", secured)
    password, *arguments = str(failed.value).removeprefix("pg_dump failed: ").split()
    assert password == servers.postgres.password
    assert not [argument for argument in arguments if password in argument]
    (where,) = [argument for argument in arguments if argument.startswith("postgresql://")]
    assert make_url(where).password is None
    assert make_url(where).query == {"sslmode": "verify-full", "sslrootcert": str(authority.certificate)}
