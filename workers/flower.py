"""Flower: what workers ran, which outlasts it. Its password is required at /metrics too."""

from __future__ import annotations

import os

from flower.views.monitor import Metrics
from tornado.web import authenticated

from db.exposure import check_flower
from db.private_files import make_private_folder
from db.settings import Settings

KEPT_TASKS = 20_000
SAVE_SECONDS = 30

COLUMNS = "name,result,state,received,started,runtime,worker,uuid"
"""Of the list of tasks. The result names the jobs."""


def flower_argv(settings: Settings) -> list[str]:
    """Its command line; credentials come by FLOWER_BASIC_AUTH. Raises Exposed if they are required and missing."""
    check_flower(os.environ, settings.flower_host)
    folder = settings.data_dir / "flower"
    make_private_folder(folder)
    return [
        "flower",
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        # what it saw is there again after a restart; it reads its own files alone, which nobody else may write
        "--persistent=True",
        f"--db={folder / 'state'}",
        f"--state_save_interval={SAVE_SECONDS * 1000}",
        f"--max_tasks={KEPT_TASKS}",
        f"--tasks_columns={COLUMNS}",
    ]


def close_metrics() -> None:
    """Require the password at /metrics too, which names workers and tasks; /healthcheck stays open."""
    Metrics.get = authenticated(Metrics.get)
