from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cli.command import Failed
from cli.commands.training import _download


class HostileServer:
    """Names whatever files it likes, and gives each the same bytes."""

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.exports = self

    def download(self, export_id: str, path: str, target: Path) -> None:
        self.written.append(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x")


def export_of(*paths: str) -> dict[str, Any]:
    digest = hashlib.sha256(b"x").hexdigest()
    return {"id": "1", "manifest": {"files": {path: {"sha256": digest} for path in paths}}}


@pytest.mark.parametrize("path", ["../evil", "clips/../../evil", "/etc/evil", "link/evil", "", ".", "a\0b"])
def test_a_server_cannot_write_outside_the_folder(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "inner" / "to"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "inner")
    server = HostileServer()
    with pytest.raises(Failed):
        _download(server, export_of(path), folder)  # type: ignore[arg-type]
    assert server.written == []
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "inner" / "evil").exists()


def test_what_lies_inside_is_written(tmp_path: Path) -> None:
    server = HostileServer()
    _download(server, export_of("clips/a.flac"), tmp_path / "to")  # type: ignore[arg-type]
    assert (tmp_path / "to" / "clips" / "a.flac").read_bytes() == b"x"
