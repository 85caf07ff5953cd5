from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.run import undisturbed_transcripts


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest.fixture(scope="package")
def baseline(cluster: Cluster) -> dict[str, Any]:
    return undisturbed_transcripts(cluster)
