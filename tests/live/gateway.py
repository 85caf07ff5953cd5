"""``python -m tests.live.gateway PORT``: a process of live sessions whose ASR is fake, to be killed."""

from __future__ import annotations

import sys

import uvicorn

from api.__main__ import listen
from cli.stack.process import HOST
from db.settings import get_settings
from live.__main__ import configuration
from live.app import create_app
from tests.live.fakes import fake_stages


def main(port: int) -> None:
    settings = get_settings()
    app = create_app(settings, load=fake_stages)
    listening = listen(HOST, port, settings.stall_seconds)
    uvicorn.Server(configuration(app, settings)).run(sockets=[listening])


if __name__ == "__main__":
    main(int(sys.argv[1]))
