"""``longhand erase`` and ``erasures`` against a real server, whose steps a thread runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import delete, select, update
from typer.testing import CliRunner

from cli.main import app
from db.models import KnownSpeaker, Sample, StoredSegment, StoredVoice, VoiceStatus
from db.session import Sessions
from db.settings import Settings
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import erase, purge
from tests.api.test_erasures import KEY
from tests.api.test_erasures import client as client
from tests.filled import fill


def said(client: httpx.Client, *arguments: str, answer: str = "") -> tuple[int, str]:
    environment = {"LONGHAND_KEY": KEY, "LONGHAND_URL": str(client.base_url)}
    done = CliRunner().invoke(app, arguments, env=environment, input=answer)
    return done.exit_code, done.output


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    runtime, stopping = Runtime(settings), threading.Event()

    def work() -> None:
        while not stopping.wait(0.05):
            run(erase.handler, runtime)
            run(purge.handler, runtime)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopping.set()
    thread.join()


@pytest.mark.usefixtures("worker")
def test_a_person_is_looked_for_shown_and_erased(client: httpx.Client, sessions: Sessions) -> None:
    owned = fill(sessions, "default")
    with sessions.begin() as session:
        # nothing here writes the lists of exports anew
        session.execute(delete(Sample))
        # nor ends the job that she may speak in
        session.execute(delete(KnownSpeaker))
        session.execute(update(StoredVoice).values(status=VoiceStatus.READY, vector=[1.0]))
        name = session.get_one(StoredVoice, owned.voice).name

    def texts() -> list[str]:
        with sessions() as session:
            return list(session.scalars(select(StoredSegment.text)))

    before = texts()
    assert name in before
    code, output = said(client, "erase", "--voice", name, "--dry-run")
    assert code == 0, output
    assert str(owned.done) in output
    code, output = said(client, "erase", "--voice", name, answer="n\n")
    assert code == 1
    assert texts() == before
    code, output = said(client, "erase", "--voice", name, "--yes")
    assert code == 0, output
    assert "certificate" in output
    code, output = said(client, "erase", "--voice", name, "--dry-run")
    assert "No recording" in output
    code, output = said(client, "erasures", str(owned.voice))
    assert (code, output.count(" done "), output.count("dry run")) == (0, 3, 2)
