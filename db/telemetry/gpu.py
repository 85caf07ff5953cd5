"""Memory and use of NVIDIA's GPUs, as ``nvidia-smi`` tells them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MIB = 1024 * 1024
SECONDS = 5.0
"""That it may take to answer."""

QUERY = ("--query-gpu=index,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")


class GpuCollector(Collector):
    """Asks at each scrape. Tells nothing where there is no GPU, or what it cannot say."""

    def collect(self) -> Iterable[Metric]:
        used = GaugeMetricFamily(
            "longhand_gpu_memory_used_bytes", "Memory in use, of all programs.", labels=["gpu"]
        )
        total = GaugeMetricFamily("longhand_gpu_memory_total_bytes", "Memory there is.", labels=["gpu"])
        busy = GaugeMetricFamily(
            "longhand_gpu_utilization_ratio", "Part of the last second at work.", labels=["gpu"]
        )
        for gpu, *values in _rows():
            for family, value, unit in zip((used, total, busy), values, (MIB, MIB, 0.01), strict=True):
                # "[N/A]" on some
                if value.isdecimal():
                    family.add_metric([gpu], int(value) * unit)
        return [used, total, busy]


def free_share() -> float | None:
    """The part of the memory that is free, of the GPU that has least; None where it is not told."""
    memory = [(int(used), int(total)) for _, used, total, _ in _rows() if used.isdecimal() and total.isdecimal()]
    return min((1 - used / total for used, total in memory if total), default=None)


def _rows() -> list[Sequence[str]]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        asked = subprocess.run(  # noqa: S603  (no part of it is given by anybody)
            [command, *QUERY], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in asked.stdout.splitlines()]
    return [row for row in rows if len(row) == 4]
