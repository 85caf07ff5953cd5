"""``python -m api [--host HOST] [--port PORT]``: the HTTP server with its limits."""

from __future__ import annotations

import argparse
import math
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from api.app import create_app
from api.guard import MAX_HEADER_BYTES
from api.protocol import bounded_protocol
from db.access import keys
from db.exposure import Exposed, check_api, is_loopback
from db.private_files import keep_files_private
from db.session import make_sessions
from db.settings import Settings, get_settings
from db.telemetry.process import TracesUnavailable, start_telemetry


def configuration(app: FastAPI) -> uvicorn.Config:
    settings: Settings = app.state.services.settings
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        # the word of others about who calls is not taken
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[*map(str, settings.trusted_proxies)],
        http=bounded_protocol(settings.stall_seconds),
        # open streams would delay the shutdown; their clients reconnect and resume by id
        timeout_graceful_shutdown=3,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=2 * MAX_HEADER_BYTES,
    )


def listen(host: str, port: int, stall_seconds: float) -> socket.socket:
    """A listening socket.

    The kernel closes connections that make no progress for twice ``stall_seconds``, or whose other end is gone.
    """
    # without its defaults, which would switch the log of requests on
    listening = uvicorn.Config("", host=host, port=port, log_config=None, access_log=False).bind_socket()
    # asyncio sets it on sockets of its own alone; without it a body waits 40 ms for its head to be acknowledged
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        for pause in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            listening.setsockopt(socket.IPPROTO_TCP, pause, math.ceil(stall_seconds))
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * stall_seconds))
    return listening


def has_keys(settings: Settings) -> bool:
    """Whether the database has keys; False while it cannot tell."""
    sessions = make_sessions(settings, name="api")
    try:
        with sessions() as session:
            return keys.any_exist(session)
    except SQLAlchemyError:
        return False
    finally:
        sessions.kw["bind"].dispose()


def serve(
    process: str,
    description: str | None,
    port: int,
    configuration_of: Callable[[Settings, bool], uvicorn.Config],
) -> None:
    """Run a server with the command line's address, unless that would leave it open to others.

    ``process`` is its name in metrics and traces. ``configuration_of`` is also told whether the server may be
    open, since nobody else reaches it.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)
    given = parser.parse_args()
    keep_files_private()
    settings = get_settings()
    try:
        start_telemetry(process, settings)
        check_api(settings, given.host, has_keys=lambda: has_keys(settings))
    except (Exposed, TracesUnavailable) as error:
        raise SystemExit(str(error)) from None
    listening = listen(given.host, given.port, settings.stall_seconds)
    uvicorn.Server(configuration_of(settings, is_loopback(given.host))).run(sockets=[listening])


def main() -> None:
    serve(
        "api",
        __doc__,
        8000,
        lambda settings, may_be_open: configuration(create_app(settings, may_be_open=may_be_open)),
    )


if __name__ == "__main__":
    main()
