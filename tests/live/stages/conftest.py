from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.stages.servers import StageServer, running


@pytest.fixture(scope="session")
def stage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageServer]:
    """One for all tests that leave it as it is."""
    with running(StageServer(tmp_path_factory.mktemp("stages"))) as server:
        yield server
