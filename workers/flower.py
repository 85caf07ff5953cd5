"""Flower with the parts closed that it leaves open beside its password."""

from __future__ import annotations

import os

from flower.views.monitor import Metrics
from tornado.web import authenticated

from db.exposure import check_flower
from db.settings import Settings


def flower_argv(settings: Settings) -> list[str]:
    """Its command line; credentials come by FLOWER_BASIC_AUTH. Raises Exposed where there are none and must be."""
    check_flower(os.environ, settings.flower_host)
    return ["flower", f"--address={settings.flower_host}", f"--port={settings.flower_port}"]


def close_metrics() -> None:
    """Ask for the password at /metrics too, which names workers and tasks; /healthcheck stays open."""
    Metrics.get = authenticated(Metrics.get)
