from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.run import calm
from tests.chaos.world import World, world


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest.fixture(scope="package")
def transcripts(made: World) -> dict[str, Any]:
    return calm(made)
