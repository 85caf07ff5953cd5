"""Fetching models: sources in order, nothing corrupted kept, two at once do not disturb each other."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer

from cli.command import ExitCode
from cli.commands import models
from speech.models.catalogue import Catalogue, Model, ModelFile, Source, read_catalogue

WEIGHTS = bytes(range(256)) * 4000


@dataclass
class Hub:
    """A hub of our own that can misbehave."""

    url: str = ""
    body: bytes = WEIGHTS
    cut: int | None = None
    requests: list[str | None] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            body = state.body[start:]
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/{{path}}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def catalogue(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    made = Catalogue(tmp_path / "models")
    file = ModelFile("model.bin", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    sources = (Source("hub", url="http://127.0.0.1:1/{path}"), Source("hub", url=hub.url))
    made.models = {"tiny": Model("tiny", "draft", "Tiny", "MIT", (file,), sources, required=True)}
    monkeypatch.setattr(models, "catalogue", lambda: made)
    return made


def test_the_next_source_serves_where_the_first_cannot(catalogue: Catalogue) -> None:
    models.pull(None)
    assert catalogue.locate("tiny").joinpath("model.bin").read_bytes() == WEIGHTS
    assert list(catalogue.verify("tiny")) == []


def test_what_is_complete_is_not_fetched_again(catalogue: Catalogue, hub: Hub) -> None:
    models.pull(None)
    models.pull(None)
    assert len(hub.requests) == 1


def test_a_download_that_broke_off_is_resumed(catalogue: Catalogue, hub: Hub) -> None:
    hub.cut = 300_000
    with pytest.raises(typer.Exit):
        models.pull(None)
    assert not catalogue.present("tiny")
    hub.cut = None
    models.pull(None)
    assert hub.requests == [None, "bytes=300000-"]
    assert list(catalogue.verify("tiny")) == []


def test_a_corrupted_file_is_refused_and_fetched_again(catalogue: Catalogue, hub: Hub) -> None:
    hub.body = WEIGHTS[:-1] + b"!"
    with pytest.raises(typer.Exit):
        models.pull(None)
    assert not catalogue.present("tiny")
    hub.body = WEIGHTS
    models.pull(None)
    assert list(catalogue.verify("tiny")) == []


def test_a_file_damaged_later_is_noticed(catalogue: Catalogue) -> None:
    models.pull(None)
    (catalogue.path("tiny") / "model.bin").write_bytes(b"!" * len(WEIGHTS))
    said = models.verify(["tiny"])
    assert said.exit_code == ExitCode.FAILED
    assert "does not have its checksum" in str(said.text)


def test_two_pulls_at_once_fetch_once(catalogue: Catalogue, hub: Hub) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(models.pull, None) for _ in range(2)]:
            done.result()
    assert len(hub.requests) == 1
    assert list(catalogue.verify("tiny")) == []


def test_an_unknown_model(catalogue: Catalogue) -> None:
    with pytest.raises(typer.Exit) as caught:
        models.pull(["huge"])
    assert caught.value.exit_code == 2


def test_the_catalogue_is_sound() -> None:
    found = read_catalogue()
    for model in found.values():
        assert model.licence
        assert model.sources
        assert model.stand_in is None or model.stand_in in found
        if model.required:
            exported = any(source.kind == "export" for source in model.sources)
            assert exported or all(file.sha256 and file.size for file in model.files)
            assert any(source.kind != "hub" for source in model.sources), "no hub is needed for a first run"
        for source in model.sources:
            if source.kind in ("wheel", "package"):
                assert set(source.members) == {file.path for file in model.files}
            if source.kind == "export":
                assert found[source.original].sources
            assert set(source.names) <= {file.path for file in model.files}
