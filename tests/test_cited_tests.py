"""Pages of the documentation cite tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CITED = re.compile(r"`((?:tests/[\w/.]+)?)(?:::(test_\w+))?`")


@pytest.mark.parametrize(("page", "least"), [("security.md", 15), ("clients.md", 10)])
def test_every_test_that_a_page_cites_exists(page: str, least: int) -> None:
    table = (ROOT / "docs" / page).read_text().partition("\n## ")[0]
    seen, file = 0, ""
    for path, name in CITED.findall(table):
        if not path and not name:
            continue
        file = path or file  # ``::name`` alone means the file before it
        assert (ROOT / file).exists(), file
        if name:
            assert f"def {name}(" in (ROOT / file).read_text(), (file, name)
        seen += 1
    assert seen >= least
