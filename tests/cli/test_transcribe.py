"""What ``longhand transcribe`` takes, where it writes, and what it remembers; no workers run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli.command import Failed
from cli.main import app
from cli.transcribe.files import write_whole
from cli.transcribe.run import Outcome, Result
from cli.transcribe.source import Source
from cli.transcribe.sources import find
from cli.transcribe.state import NAME, State, file_of
from tests.api.conftest import client as client


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_what_of_a_folder_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "b.MP3", folder / "sub" / "a.wav", folder / "c.txt", folder / ".d.wav", folder / ".e" / "f.wav")
    (folder / "loop").symlink_to(folder)
    touch(tmp_path / "odd.bin")
    found = find([str(folder), str(folder / "b.MP3"), str(tmp_path / "odd.bin")], None)
    assert [(Path(each.name).name, each.folder) for each in found] == [
        ("b.MP3", folder),
        ("a.wav", folder / "sub"),
        ("odd.bin", tmp_path),
    ]
    out = tmp_path / "out"
    assert [each.folder for each in find([str(folder)], out)] == [out, out / "sub"]
    assert {each.root for each in find([str(folder)], out)} == {out}


@pytest.mark.parametrize("missing", ["nowhere", "/dev/zero"])
def test_what_is_no_file_is_refused(missing: str) -> None:
    with pytest.raises(Failed):
        find([missing], None)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/show%201.mp3?token=secret", "show_1.mp3"),
        ("https://example.org/", "example.org"),
        ("s3://bucket/..%2F..%2Fetc%2Fpasswd", "passwd"),
    ],
)
def test_an_address_gives_a_name(url: str, name: str) -> None:
    (source,) = find([url], None)
    assert source.filename == name
    assert source.folder == Path.cwd()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(tmp_path)
    yield opened
    opened.close()


def source(root: Path, name: str) -> Source:
    return Source(f"/elsewhere/{name}", root, root)


def test_names_are_kept_and_collide_with_nothing(state: State, tmp_path: Path) -> None:
    touch(tmp_path / "b.srt")
    names = ["x/a.mp3", "x/A.wav", "y/a.mp3", "y/a.wav", "b.mp3", "c"]
    bases = [state.target(source(tmp_path, name), ["srt"]).name for name in names]
    assert bases == ["a", "A.wav", "a.mp3", "a.wav-2", "b.mp3", "c"]
    state.close()
    again = State(tmp_path)
    assert [again.target(source(tmp_path, name), ["srt"]).name for name in reversed(names)] == bases[::-1]
    again.close()


def test_writers_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "talk.txt"
    (tmp_path / ".talk.txt.part").symlink_to(tmp_path / "elsewhere")
    contents = [bytes([number]) * 500_000 for number in range(8)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda content: write_whole(file, content), contents))
    assert file.read_bytes() in contents
    assert {path.name for path in tmp_path.iterdir()} == {".talk.txt.part", "talk.txt"}


def test_no_credential_of_an_address_is_kept(state: State, tmp_path: Path) -> None:
    address = "https://user:hidden@example.org/show.mp3?signature=hidden#hidden"
    (recording,) = find([address], tmp_path)
    base = state.target(recording, ["srt"])
    state.claim(recording, "srt")
    state.note_done(recording, "srt", "key")
    state.close()
    assert "hidden" not in (tmp_path / NAME).read_text()
    again = State(tmp_path)
    assert again.target(recording, ["srt"]) == base == tmp_path / "show"
    assert again.is_claimed(recording, "srt")
    again.close()
    result = Result(recording, Outcome.FAILED)
    assert result.to_json()["source"] == "https://example.org/show.mp3"


def test_a_folder_may_be_moved(tmp_path: Path) -> None:
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    touch(folder / "sub" / "a.wav")
    state = State(folder)
    (recording,) = find([str(folder)], None)
    base = state.target(recording, ["srt"])
    state.claim(recording, "srt")
    touch(file_of(base, "srt"))
    state.note_done(recording, "srt", "key")
    state.close()
    folder.rename(moved)
    again = State(moved)
    (recording,) = find([str(moved)], None)
    assert again.target(recording, ["srt"]) == moved / "sub" / "a"
    assert again.is_done(recording, "srt", "key")
    assert not again.is_done(recording, "srt", "of other options")
    again.close()


def test_a_line_that_was_cut_short_was_never_written(state: State, tmp_path: Path) -> None:
    state.note_work("key", id="1")
    state.close()
    with (tmp_path / NAME).open("ab") as journal:
        journal.write(b'{"work": "key", "id": "2')
    again = State(tmp_path)
    again.note_work("other", id="3")
    again.close()
    last = State(tmp_path)
    assert (last.work("key"), last.work("other")) == ({"id": "1"}, {"id": "3"})
    last.close()


@pytest.mark.parametrize(
    "base", ["{outside}", "../outside/notes", "link/notes", "a/../../outside/notes", ".", "loop/a", "\ud800"]
)
def test_a_journal_names_no_place_elsewhere(tmp_path: Path, base: str) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    touch(folder / "talk.mp3", outside / "notes.srt")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    line = {"result": "talk.mp3", "base": base.format(outside=outside / "notes"), "formats": {"srt": None}}
    (folder / NAME).write_text(json.dumps(line) + "\n")
    state = State(folder)
    (recording,) = find([str(folder)], None)
    assert state.target(recording, ["srt"]) == folder / "talk"
    assert not state.is_claimed(recording, "srt")
    state.close()


def test_a_journal_may_be_damaged(tmp_path: Path) -> None:
    touch(tmp_path / "talk.mp3")
    lines: list[object] = [
        {"result": "talk.mp3", "base": 5},
        {"result": "talk.mp3", "base": "x"},
        {"result": "talk.mp3", "base": "x", "formats": []},
        {"result": "talk.mp3", "base": "x", "formats": {"srt": 1}},
        {"result": ["talk.mp3"], "base": "x", "formats": {}},
        {"file": "talk.mp3"},
        {"file": []},
        {"work": []},
        {"work": "key", "id": 5},
        [],
        None,
    ]
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines) + "[" * 100_000 + "\n\xff")
    state = State(tmp_path)
    (recording,) = find([str(tmp_path)], None)
    assert state.target(recording, ["srt"]) == tmp_path / "talk"
    assert state.digest(recording, recording.path.stat()) is None
    assert state.work("key") == {}
    assert not state.is_done(recording, "srt", "key")
    state.close()


def test_a_journal_is_no_link(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere")
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="cannot be written"):
        State(tmp_path)
    assert (tmp_path / "elsewhere").read_bytes() == b"x"


@pytest.mark.usefixtures("state")
def test_two_runs_do_not_work_on_one_folder(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="Another"):
        State(tmp_path)


def test_a_mistake_in_the_options_uploads_nothing(client: httpx.Client, tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    arguments = ["transcribe", str(tmp_path), "-o", "colour=red", "--url", str(client.base_url), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert json.loads(done.stderr)["error"]["code"] == "invalid_request"
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "a.wav"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["transcribe", "nowhere.mp3"], 2),
        (["transcribe", __file__, "--format", "../x"], 2),
        (["transcribe", __file__, "-o", "novalue"], 2),
        (["transcribe"], 2),
        (["jobs", "--url", "http://127.0.0.1:1"], 3),
        (["jobs", "--url", "127.0.0.1"], 3),
        (["jobs", "--url", "http://a:port"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == code
