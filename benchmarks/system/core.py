"""The queue alone: the cost of a step, of a claim as the table grows, and of a recording outside the engines."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Group

from benchmarks.stack import running_parts, settings_of
from benchmarks.system.claiming import claim_growth, throughput
from benchmarks.system.overhead import overhead
from tasks.queue import app


def measure(minutes: float, speech: Path) -> Group:
    with (
        TemporaryDirectory() as folder,
        running_parts(Path(folder) / "stack", ("postgres", "redis", "s3")) as started,
    ):
        settings = settings_of(started)
        app.conf.update(broker_url=settings.redis_url)
        return Group(
            throughput(settings), *claim_growth(settings), overhead(settings, minutes, speech, Path(folder))
        )
