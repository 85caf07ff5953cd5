"""Batches by CSV, and the options beside a recording."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli.command import Failed
from cli.main import app
from cli.transcribe.batch import read
from tests.api.conftest import client as client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("in/a.mp3", "in/sub/b.wav", "in/c d.mp3", "elsewhere.ogg"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "in"


def batch(folder: Path, content: str) -> Path:
    path = folder / "batch.csv"
    path.write_text(content)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_are_recordings_with_options(folder: Path, separator: str, tmp_path: Path) -> None:
    lines = [
        ["\ufefffile", "language", "speakers"],
        ["a.mp3", "en", "2"],
        ["", "", ""],
        ["sub/b.wav", "", ""],
        ["https://example.org/c.mp3", "de", ""],
        ["../elsewhere.ogg", "", "3"],
    ]
    path = batch(folder, "\r\n".join(separator.join(cells) for cells in lines))
    out = tmp_path / "out"
    found = [(source.name, source.folder, dict(source.row.options)) for source in read(path, out) if source.row]
    assert found == [
        (str(folder / "a.mp3"), out, {"language": "en", "speakers": "2"}),
        (str(folder / "sub" / "b.wav"), out / "sub", {}),
        ("https://example.org/c.mp3", out, {"language": "de"}),
        (str(tmp_path / "elsewhere.ogg"), out, {"speakers": "3"}),
    ]
    assert [source.folder for source in read(path, None)] == [folder, folder / "sub", folder, tmp_path]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "line 1: there is no column file"),
        ("a.mp3\n", "line 1: there is no column file"),
        ("file,,language\n", "line 1: column 2 has no name"),
        ("file,language,language\n", "line 1: column 3 is there twice: language"),
        ("file\na.mp3\nb.mp3\n", "line 3, column file: there is no file b.mp3"),
        ("file\nsub\n", "line 2, column file: there is no file sub"),
        ("file,language\n,en\n", "line 2, column file: it is empty"),
        ("file,hotwords\na.mp3,Ada,Bob\n", "line 2, 3 fields for 2 columns"),
        ("file\na.mp3\n\nsub/../a.mp3\n./a.mp3\n", "column file"),
        ('file\n"a.mp3\n', "line 2"),
    ],
)
def test_errors_name_line_and_column(folder: Path, content: str, told: str) -> None:
    with pytest.raises(Failed) as caught:
        list(read(batch(folder, content), None))
    assert told in str(caught.value)


def test_what_is_no_text(folder: Path) -> None:
    (folder / "batch.csv").write_bytes(b"file\n\xff\xfe.mp3\n")
    with pytest.raises(Failed, match="not UTF-8"):
        list(read(folder / "batch.csv", None))


def test_options_of_one_recording_fail_it_alone(client: httpx.Client, folder: Path) -> None:
    """Before anything of it is uploaded."""
    (folder / "a.json").write_text('{"colour": "red"}')
    (folder / "sub" / "b.json").write_text("{")
    path = batch(folder, "file,speakers\na.mp3,\nsub/b.wav,2\nc d.mp3,many\n")
    arguments = ["transcribe", str(path), "--language", "en", "--url", str(client.base_url), "--json"]
    done = CliRunner().invoke(app, arguments)
    errors = [result["error"] for result in json.loads(done.stdout)["results"]]
    assert (done.exit_code, len(errors)) == (1, 3)
    assert "line 2" in errors[0]
    assert "options.colour" in errors[0]
    assert f"{folder}/sub/b.json: it is not JSON" in errors[1]
    assert f"{path}, line 4" in errors[2]
    assert "options.speakers" in errors[2]
    with (folder / "batch.results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["outcome"], row["error"]) for row in rows] == [
        (name, "failed", error) for name, error in zip(["a.mp3", "sub/b.wav", "c d.mp3"], errors, strict=True)
    ]
    assert client.get("/v1/jobs").json()["data"] == []
