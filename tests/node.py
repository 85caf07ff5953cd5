"""Clients in JavaScript: the packages of ``tests/js``, which `make test` installs where npm is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("js")


def node(script: str) -> list[str]:
    """The command of a script in ``tests/js``. Skips the test where it cannot run."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if not (FOLDER / "node_modules").exists():
        pytest.skip("the packages of tests/js are not installed: npm ci --prefix tests/js")
    return [found, str(FOLDER / script)]
