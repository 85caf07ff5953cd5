"""``python -m live [--host HOST] [--port PORT]``: the server of live sessions."""

from __future__ import annotations

import argparse

import uvicorn
from starlette.applications import Starlette

from api.__main__ import has_keys, listen
from db.exposure import Exposed, check_api, is_loopback
from db.logs import configure_logging
from db.private_files import keep_files_private
from db.settings import Settings, get_settings
from live.app import create_app

MAX_MESSAGE_BYTES = 1024 * 1024
"""Half a minute of PCM; clients send a tenth of a second at a time."""


def configuration(app: Starlette, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[*map(str, settings.trusted_proxies)],
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        # sound does not get smaller
        ws_per_message_deflate=False,
        # while a client is made to wait its pongs are not read; the dead are known by their silence
        ws_ping_interval=None,
        timeout_graceful_shutdown=3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    given = parser.parse_args()
    configure_logging()
    keep_files_private()
    settings = get_settings()
    try:
        check_api(settings, given.host, has_keys=lambda: has_keys(settings))
    except Exposed as error:
        raise SystemExit(str(error)) from None
    listening = listen(given.host, given.port, settings.stall_seconds)
    app = create_app(settings, may_be_open=is_loopback(given.host))
    uvicorn.Server(configuration(app, settings)).run(sockets=[listening])


if __name__ == "__main__":
    main()
