"""Files made to do harm end with a code, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.cluster import Cluster
from tests.chaos.hostile import attack
from tests.speech.audio.test_isolated import CODES

COUNT, SEED = 50, 7


def test_hostile_files_cost_no_worker_and_no_neighbours_attempt(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = attack(cluster, tmp_path, count=COUNT, seed=SEED)
    with capsys.disabled():
        Console(width=110).print(report.table())
    assert report.tried.total() == COUNT
    assert report.codes <= {"completed", *CODES}
    assert len(report.codes) > 3
    assert report.harmless
    assert report.peak_bytes < cluster.settings.decode_memory_bytes
