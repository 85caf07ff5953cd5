"""One trace, from the request that brings a recording, over processes that know of each other by its row alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import SpanKind
from sqlalchemy import select

from cli.stack.process import HOST, free_port
from db.models import Job
from db.session import Sessions
from db.settings import Settings
from db.telemetry import process, tracing
from db.telemetry.otlp import Beginnings
from db.telemetry.process import TracesUnavailable, start_telemetry
from tests.conftest import environment_of
from tests.telemetry.receiver import Receiver, receiving
from tests.telemetry.worker import SECRET
from tests.waiting import until

ROOT = Path(__file__).parents[2]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEY = "the-key-of-this-test"


@contextmanager
def running_api(environment: dict[str, str]) -> Iterator[httpx.Client]:
    port = free_port()
    command = [sys.executable, "-m", "api", "--port", str(port)]
    api = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60) as client:
            until(lambda: client.get("/readyz").status_code == 200, "the API is ready", despite=(httpx.HTTPError,))
            yield client
    finally:
        api.send_signal(signal.SIGTERM)
        api.wait(60)


def environment(settings: Settings, receiver: Receiver) -> dict[str, str]:
    traced = {
        "LONGHAND_OTLP_ENDPOINT": receiver.url,
        "LONGHAND_OTLP_HEADERS": '{"x-collector-key": "of-the-collector"}',
        "LONGHAND_API_KEYS": f'{{"{KEY}": "default"}}',
        "LONGHAND_LOG_FORMAT": "json",
        "LONGHAND_RETRY_SECONDS": "0.01",
    }
    return {**os.environ, **environment_of(settings), **traced}


def test_from_the_request_to_the_last_byte(settings: Settings, sessions: Sessions) -> None:
    recording = ROOT / "tests" / "data" / "ocean_0036.flac"
    with receiving() as receiver:
        variables = environment(settings, receiver)
        with running_api(variables) as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            below = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            options = {"options": '{"diarize": false, "language": "en"}'}
            with recording.open("rb") as file:
                made = client.post("/v1/jobs", files={"file": file}, data=options, headers=headers | below)
            assert made.status_code == 202, made.text
            job_id = made.json()["id"]
            worker = subprocess.run(
                [sys.executable, "-m", "tests.telemetry.worker"],
                cwd=ROOT,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
            assert worker.returncode == 0, worker.stdout + worker.stderr
            streamed = client.get(f"/v1/jobs/{job_id}/events", headers=headers)
            assert "job.completed" in streamed.text
            client.get("/v1/jobs", params={"search": SECRET, "token": KEY}, headers=headers)
            client.get("/healthz")
    with sessions() as session:
        (row,) = session.scalars(select(Job.trace))
    (request,) = receiver.named("POST /v1/jobs")
    assert (request.trace_id, request.parent, request.service) == (TRACE, CALLER, "longhand-api")
    # the job keeps the request's context, and every process goes on from there
    assert row is not None
    assert row.split("-")[1:3] == [TRACE, request.span_id]
    steps = [span for span in receiver.spans if span.name.endswith(" step")]
    assert {span.name for span in steps} == {
        f"{kind} step" for kind in ("ingest", "draft", "refine", "align", "finalize")
    }
    assert {(span.trace_id, span.parent, span.service) for span in steps} == {
        (TRACE, request.span_id, "longhand-cpu")
    }
    # what failed once: an event of the first attempt, and a span for each
    attempts = sorted(receiver.named("refine step"), key=lambda span: span.attributes["attempt"])
    assert {span.attributes["outcome"] for span in attempts} >= {"retried", "done"}
    assert all(("retried" in span.events) == (span.attributes["outcome"] == "retried") for span in attempts)
    (stream,) = receiver.named("event stream")
    assert (stream.trace_id, stream.parent) == (TRACE, request.span_id)
    (asked,) = receiver.named("GET /v1/jobs/{job_id}/events")
    assert stream.links == [asked.span_id]
    # libraries tell what they do below what is ours, and poll unseen
    by_id = {span.span_id: span for span in receiver.spans}
    scopes = {span.scope.rpartition(".")[2] for span in receiver.spans if span.trace_id == TRACE}
    assert scopes >= {"fastapi", "longhand", "sqlalchemy", "redis", "botocore"}
    roots = [span for span in receiver.spans if span.parent not in by_id]
    assert {span.name.split()[0] for span in roots} <= {"POST", "GET"}
    assert not [span for span in receiver.spans if "healthz" in span.text or "readyz" in span.text]
    assert receiver.headers[0]["x-collector-key"] == "of-the-collector"
    told = "".join(span.text for span in receiver.spans)
    assert SECRET not in told
    assert KEY not in told
    # an example of a histogram leads to the trace
    assert f'trace_id="{TRACE}"' in worker.stdout


@pytest.mark.parametrize("ratio", [0, 1])
def test_a_job_of_a_request_that_is_left_out_is_left_out(ratio: int) -> None:
    tracer = TracerProvider(sampler=ParentBased(Beginnings(ratio))).get_tracer("tests")
    with tracer.start_as_current_span("POST /v1/jobs", kind=SpanKind.SERVER):
        parent = tracing.current_parent()
    assert parent is not None
    assert int(parent.rpartition("-")[2], 16) & 1 == ratio
    step = tracer.start_span("draft step", tracing.context_of(parent), SpanKind.CONSUMER)
    assert step.is_recording() == (ratio == 1)


@pytest.mark.parametrize(
    ("kind", "begins"), [(SpanKind.SERVER, True), (SpanKind.CONSUMER, True), (SpanKind.CLIENT, False)]
)
def test_what_may_begin_a_trace(kind: SpanKind, begins: bool) -> None:
    tracer = TracerProvider(sampler=ParentBased(Beginnings(1))).get_tracer("tests")
    assert tracer.start_span("alone", tracing.context_of(None), kind).is_recording() == begins


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "EXPORTER", "opentelemetry_is_not_here")
    with pytest.raises(TracesUnavailable, match=r"pip install 'longhand\[traces\]'"):
        start_telemetry("api", Settings(otlp_endpoint="http://127.0.0.1:4318"))
