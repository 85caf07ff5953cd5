"""The names of all metrics that processes export, as Prometheus stores them."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

import live.metrics  # noqa: F401  (it registers its own)

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}


def exported() -> set[str]:
    """Skips the test where the metrics of a tree are not there."""
    pytest.importorskip("db.telemetry.metrics", reason="this tree has no db.telemetry")
    return _names(REGISTRY)


def _names(collector: Collector) -> set[str]:
    families: list[Metric] = list(collector.collect())
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))}
