"""The page's logic, which needs no browser: tested by vitest."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.web.conftest import WEB


def test_the_pages_logic() -> None:
    node, vitest = shutil.which("node"), WEB / "node_modules" / "vitest" / "vitest.mjs"
    if node is None or not vitest.exists():
        pytest.skip("vitest is not installed: npm ci --prefix web --ignore-scripts")
    ran = subprocess.run([node, vitest, "run"], cwd=WEB, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
