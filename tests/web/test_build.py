"""What is packaged of the page: it is of today's source, and small."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.routes.page import BUILT
from tests.waiting import LIMIT_SECONDS
from tests.web.conftest import WEB

MOST_BYTES = 250_000
"""In gzip, of all that the first page loads."""


def npm(*command: str) -> str:
    """Skips where the page cannot be built."""
    found = shutil.which("npm")
    if found is None or not (WEB / "node_modules" / "vite").exists():
        pytest.skip("what the page is built with is not installed: npm ci --prefix web")
    done = subprocess.run(
        [found, *command], cwd=WEB, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_built_from_todays_source(tmp_path: Path) -> None:
    npm("run", "build", "--", "--outDir", str(tmp_path), "--emptyOutDir", "--logLevel", "error")
    assert files(tmp_path) == files(BUILT), "run `make web`"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_types_fit_and_every_language_says_everything() -> None:
    npm("run", "check")


def test_the_first_page_is_small() -> None:
    document = (BUILT / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="/([^"]+)"', document)
    assert any(name.endswith(".js") for name in loaded)
    sizes = {name: len(gzip.compress((BUILT / name).read_bytes())) for name in loaded}
    assert sum(sizes.values()) + len(gzip.compress(document.encode())) < MOST_BYTES, sizes


def test_it_asks_nobody_else_for_anything() -> None:
    """No address of another host is where a browser would load it: in the document, or in styles."""
    texts = [BUILT / "index.html", *BUILT.rglob("*.css")]
    assert not [
        path
        for path in texts
        if re.search(r"""(?:src|href)="https?:|url\(["']?https?:|@import""", path.read_text())
    ]
