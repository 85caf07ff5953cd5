"""Flower, with its password required at /metrics too."""

from __future__ import annotations

import os

from flower.views.monitor import Metrics
from tornado.web import authenticated

from db.exposure import check_flower
from db.settings import Settings


def flower_argv(settings: Settings) -> list[str]:
    """Its command line; credentials come by FLOWER_BASIC_AUTH. Raises Exposed if they are required and missing."""
    check_flower(os.environ, settings.flower_host)
    return ["flower", f"--address={settings.flower_host}", f"--port={settings.flower_port}"]


def close_metrics() -> None:
    """Require the password at /metrics too, which names workers and tasks; /healthcheck stays open."""
    Metrics.get = authenticated(Metrics.get)
