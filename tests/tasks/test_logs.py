"""What people said stays out of the logs, whatever goes wrong."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import IntegrityError

from db.logs import configure_logging
from db.models import Chunk, StepKind, StoredSegment
from tasks.handler import Handler, Work
from tasks.step import run
from tests.jobs import make_job, steps_of
from tests.tasks.pipeline import MakeRuntime

SECRET = "the merger with Contoso"


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What a worker's log would hold."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(request.param, stream)
    yield stream
    configure_logging()
    root.handlers[:], level = before
    root.setLevel(level)


def raising(error: Exception) -> Handler:
    def work(claims: object, work: Work) -> list[Exception]:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001  (any error of the test's)
            return [caught]

    return Handler(StepKind.INGEST, work, lambda tx, claim, output: None, deadline=60)


@pytest.mark.parametrize("error", [ValueError(f"cannot read {SECRET!r}"), KeyError(SECRET), RuntimeError(SECRET)])
def test_a_bug_whose_message_quotes_what_was_said(
    make_runtime: MakeRuntime, log: io.StringIO, error: Exception
) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)
    run(raising(error), runtime)
    (step,) = steps_of(runtime.sessions, job_id)
    assert type(error).__name__ in (step.error or "")
    assert "test_logs.py" in log.getvalue()
    assert SECRET not in (step.error or "") + log.getvalue()


def test_a_failing_insert_hides_its_row(make_runtime: MakeRuntime, log: io.StringIO) -> None:
    """Postgres quotes the failing row, and SQLAlchemy the parameters."""
    runtime = make_runtime()
    job_id = make_job(runtime.sessions)

    def work(claims: object, work: Work) -> list[object]:
        with runtime.sessions.begin() as session:
            session.add(Chunk(job_id=job_id, index=0, start=0, end=1, key="k"))
            session.flush()
            session.add(
                StoredSegment(job_id=job_id, index=0, chunk=0, start=0, end=1, text=SECRET, confidence=7, words=[])
            )
        return [None]

    run(Handler(StepKind.INGEST, work, lambda tx, claim, output: None, deadline=60), runtime)
    (step,) = steps_of(runtime.sessions, job_id)
    assert IntegrityError.__name__ in (step.error or "")
    assert SECRET not in (step.error or "") + log.getvalue()


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_one_line_of_json_for_each_step(make_runtime: MakeRuntime, log: io.StringIO) -> None:
    runtime = make_runtime()
    job_id = make_job(runtime.sessions, tenant="acme")
    run(raising(ValueError(f"two\nlines of {SECRET}")), runtime)
    failure, end = [json.loads(line) for line in log.getvalue().splitlines()]
    for line in (failure, end):
        assert (line["job_id"], line["tenant"], line["step"], line["attempt"]) == (
            str(job_id),
            "acme",
            "ingest",
            1,
        )
        assert line["worker"].endswith(f":{os.getpid()}")
    assert (failure["level"], "test_logs.py" in failure["exception"]) == ("error", True)
    assert (end["logger"], end["outcome"]) == ("longhand.events", "retried")
    assert end["ms"] > 0
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize("log", ["text"], indirect=True)
def test_text_has_no_line_for_what_went_well(make_runtime: MakeRuntime, log: io.StringIO) -> None:
    runtime = make_runtime()
    make_job(runtime.sessions)
    run(Handler(StepKind.INGEST, lambda claims, work: [None], lambda tx, claim, output: None, 60), runtime)
    assert log.getvalue() == ""
