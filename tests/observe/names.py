"""The names of all metrics that processes export, as Prometheus stores them."""

from __future__ import annotations

from prometheus_client.registry import Collector

import live.metrics  # noqa: F401  (both register their own)
from db.session import Sessions
from db.telemetry.exposition import Together
from db.telemetry.gpu import GpuCollector
from db.telemetry.queue import QueueCollector

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}


def exported(sessions: Sessions) -> set[str]:
    """By any process; ``sessions`` of a database that can be read."""
    every: Collector = Together(QueueCollector(sessions), GpuCollector())
    return {family.name + suffix for family in every.collect() for suffix in SUFFIXES.get(family.type, ("",))}
