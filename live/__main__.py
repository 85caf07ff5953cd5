"""``python -m live [--host HOST] [--port PORT]``: the server of live sessions."""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette

from api.__main__ import serve
from db.settings import Settings
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
    serve(
        "live",
        __doc__,
        8001,
        lambda settings, may_be_open: configuration(create_app(settings, may_be_open=may_be_open), settings),
    )


if __name__ == "__main__":
    main()
