from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.command import console


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """Tables have room, whatever the terminal of whoever runs the tests."""
    before = console.width
    console.width = 400
    yield
    console.width = before
