"""The examples of docs/client.md run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cli.stack.stack import Stack
from tests.media import DATA

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example(example: str, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DATA / "jfk.flac", tmp_path / "talk.flac")
    monkeypatch.chdir(tmp_path)
    assert "http://127.0.0.1:8000" in example
    exec(example.replace("http://127.0.0.1:8000", stack.api_url), {})  # noqa: S102  (our own page)
