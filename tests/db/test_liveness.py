"""A Postgres that is no longer there."""

from __future__ import annotations

import socket

from db.session import make_sessions
from db.settings import Settings


def test_connections_notice_a_server_that_vanishes(settings: Settings) -> None:
    with make_sessions(settings, name="test")() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=socket.dup(driver.fileno())) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

            def seconds(option: int) -> int:
                return connection.getsockopt(socket.IPPROTO_TCP, option)

            idle = seconds(socket.TCP_KEEPIDLE) + seconds(socket.TCP_KEEPINTVL) * seconds(socket.TCP_KEEPCNT)
            assert idle <= 30, "of a connection that waits for an answer"
            assert seconds(socket.TCP_USER_TIMEOUT) <= 30_000, "of one that sends"
