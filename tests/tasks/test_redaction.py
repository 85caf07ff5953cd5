"""Whatever is said of phone numbers, e-mails and the like is nowhere but sealed."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import inspect, select, text

from db import transcripts
from db.access import tenants
from db.events import event_log
from db.models import EventType, StepKind, StoredHypothesis
from speech.engines import Utterance
from speech.text.redaction.redact import redact
from speech.text.words import Hypothesis
from speech.training.dataset.filters import Reason
from tasks.step import run
from tasks.steps import draft, ingest, transcribe
from tests.jobs import steps_of
from tests.tasks.fakes import FakeRuntime, make_hypothesis
from tests.tasks.pipeline import MakeRuntime, job_of, recording, run_until_done, submit
from tests.tasks.test_logs import log as log
from tests.tasks.training.exports import (
    RECORDINGS,
    correct_transcript,
    files_of,
    run_export,
    samples_of,
    transcribe_recording,
)
from tests.waiting import avoid_midnight

SPELLED = "ring me at one three eight double zero one three eight zero zero one please"
WRITTEN = "ring me at 138 0013 8001, please or write to ada@example.com"
LEAKS = ("8001", "0013", "138", "double", "three eight", "ada@", "example")
EVERYTHING = ["phone", "email", "card", "id"]
KEY = Fernet.generate_key().decode()


def speaking(make_runtime: MakeRuntime, **changes: object) -> FakeRuntime:
    return make_runtime(lambda _: SPELLED, lambda _: WRITTEN, **changes)


def stored(runtime: FakeRuntime) -> str:
    """All rows of all tables, and all objects but recordings, as text."""
    with runtime.sessions() as session:
        tables = inspect(session.connection()).get_table_names()
        rows = [str(session.execute(text(f"SELECT t::text FROM {table} t")).all()) for table in tables]  # noqa: S608
    listed = [key for key, _ in runtime.storage.list("") if not key.endswith(("flac", "source"))]
    bodies = [runtime.storage.get(key).decode(errors="replace") for key in listed]
    return "\n".join([*rows, *bodies])


def leaks(runtime: FakeRuntime, job_id: uuid.UUID) -> list[str]:
    # ids and times may hold any digits
    found = stored(runtime)
    assert str(job_id) in found
    return [mark for mark in LEAKS if mark in found and not mark.isdigit()] + [
        mark for mark in ("0013", "8001") if f" {mark}" in found or f'"{mark}' in found
    ]


def texts(runtime: FakeRuntime, job_id: uuid.UUID) -> tuple[str, str]:
    """Of final segments, and of draft events."""
    with runtime.sessions() as session:
        finals = [segment["text"] for segment in transcripts.final_segments(session, job_id)]
        events = event_log.after(session, job_id, 0)
    drafts = [event.data["text"] for event in events if event.type == EventType.SEGMENT_DRAFT]
    return " ".join(finals), " ".join(drafts)


def originals(runtime: FakeRuntime, job_id: uuid.UUID) -> dict[str, bytes | None]:
    with runtime.sessions() as session:
        rows = session.execute(
            select(StoredHypothesis.role, StoredHypothesis.original).where(StoredHypothesis.job_id == job_id)
        )
        return {role.value: original for role, original in rows}


def test_nothing_that_is_redacted_is_stored_anywhere(make_runtime: MakeRuntime, log: io.StringIO) -> None:
    runtime = speaking(make_runtime, redact=EVERYTHING)
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    finals, drafts = texts(runtime, job_id)
    assert finals == "ring me at [PHONE], please or write to [EMAIL]"
    assert drafts == "ring me at [PHONE] please"
    prefix = job_of(runtime, job_id).transcript_prefix
    assert "[PHONE]," in runtime.storage.get(f"{prefix}transcript.srt").decode()
    assert leaks(runtime, job_id) == []
    assert not [mark for mark in LEAKS[3:] if mark in log.getvalue()]
    assert set(originals(runtime, job_id).values()) == {None}


def test_without_any_setting_all_is_as_it_was_said(make_runtime: MakeRuntime) -> None:
    runtime = speaking(make_runtime)
    job_id = submit(runtime, recording("jfk.flac"))
    run_until_done(runtime)
    assert texts(runtime, job_id) == (WRITTEN, SPELLED)
    assert len(leaks(runtime, job_id)) > 2, "the search would see it"


@pytest.mark.parametrize(
    ("server", "row", "options", "expected"),
    [
        (["phone"], {}, {}, "ring me at [PHONE], please or write to ada@example.com"),
        ([], {"redact": ["email"]}, {}, "ring me at 138 0013 8001, please or write to [EMAIL]"),
        (["phone"], {"redact": []}, {}, WRITTEN),
        (["phone"], {"redact": None}, {}, "ring me at [PHONE], please or write to ada@example.com"),
        (["phone"], {"redact": []}, {"redact": ["email"]}, "ring me at 138 0013 8001, please or write to [EMAIL]"),
        (["phone"], {}, {"redact": ["email"]}, "ring me at [PHONE], please or write to [EMAIL]"),
    ],
)
def test_the_row_of_a_tenant_goes_before_the_settings_and_a_job_adds(
    make_runtime: MakeRuntime, server: list[str], row: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    runtime = speaking(make_runtime, redact=server)
    if row:
        with runtime.sessions.begin() as session:
            tenants.change(session, "default", row)
    job_id = submit(runtime, recording("jfk.flac"), options=options)
    run_until_done(runtime)
    assert texts(runtime, job_id)[0] == expected


class TestOriginals:
    def test_are_kept_sealed(self, make_runtime: MakeRuntime) -> None:
        runtime = speaking(make_runtime, redact=EVERYTHING, keep_original=True, secret_key=KEY)
        job_id = submit(runtime, recording("jfk.flac"))
        run_until_done(runtime)
        assert leaks(runtime, job_id) == []
        kept = {
            role: [each["text"] for each in json.loads(runtime.secrets.open(sealed or b""))]
            for role, sealed in originals(runtime, job_id).items()
        }
        assert kept == {
            "draft": [SPELLED[11:-7]],
            "refined": ["138 0013 8001", "ada@example.com"],
        }

    def test_are_not_kept_in_plain_text(self, make_runtime: MakeRuntime) -> None:
        runtime = speaking(make_runtime, redact=EVERYTHING, keep_original=True)
        job_id = submit(runtime, recording("jfk.flac"))
        run_until_done(runtime)
        assert set(originals(runtime, job_id).values()) == {None}
        assert leaks(runtime, job_id) == []

    def test_a_tenant_may_keep_none(self, make_runtime: MakeRuntime) -> None:
        runtime = speaking(make_runtime, redact=EVERYTHING, keep_original=True, secret_key=KEY)
        with runtime.sessions.begin() as session:
            tenants.change(session, "default", {"keep_original": False})
        job_id = submit(runtime, recording("jfk.flac"))
        run_until_done(runtime)
        assert set(originals(runtime, job_id).values()) == {None}


def test_what_is_redacted_is_not_trained_on(make_runtime: MakeRuntime) -> None:
    avoid_midnight()

    def say(utterance: Utterance) -> str:
        return f"{WRITTEN} take {len(utterance.samples)}"

    runtime = make_runtime(say, say, training_tenants=["default"], redact=EVERYTHING)
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    exported = run_export(runtime)
    assert {sample.reason for sample in samples_of(runtime, exported)} == {Reason.REDACTED}
    assert not [path for path in files_of(runtime, exported) if path.startswith(("raw/", "asr/"))]
    assert leaks(runtime, job_id) == []


def test_what_a_person_wrote_instead_is_not_trained_on_either(make_runtime: MakeRuntime) -> None:
    """The clip says the number, whatever its text says."""
    avoid_midnight()
    runtime = make_runtime(lambda _: WRITTEN, lambda _: WRITTEN, redact=EVERYTHING, training_tenants=["default"])
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    correct_transcript(runtime, job_id, "ring me at my number please or write to my address")
    exported = run_export(runtime, max_disagreement=1.0)
    assert {sample.reason for sample in samples_of(runtime, exported)} == {Reason.REDACTED}


SPANISH = "mi tarjeta es cuatro uno uno uno uno uno uno uno uno uno uno uno uno uno uno uno gracias"


def test_digits_bring_nothing_to_light(make_runtime: MakeRuntime) -> None:
    """In languages whose numbers are written in digits and not looked for in words."""
    runtime = make_runtime(lambda _: SPANISH, lambda _: SPANISH, redact=EVERYTHING, redact_regions=["ES"])
    spanish = replace(make_hypothesis(SPANISH), language="es")
    for engine in (runtime.draft_engine, runtime.refine_engine):
        engine.transcribe = lambda utterances: [spanish] * len(utterances)  # type: ignore[method-assign]
    job_id = submit(runtime, recording("jfk.flac"), options={"digits": True})
    run_until_done(runtime)
    finals, drafts = texts(runtime, job_id)
    assert finals == drafts == "mi tarjeta es [CARD] gracias"


def test_a_chunk_that_cannot_be_redacted_costs_no_other(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(redact=EVERYTHING)
    broken = submit(runtime, recording("jfk.flac"))
    whole = submit(runtime, recording("jfk.flac"))
    original = redact

    def fails_once(hypothesis: Hypothesis, *arguments: Any) -> Any:
        monkeypatch.setattr(transcribe, "redact", original)
        raise KeyError("a bug")

    run_until_done(runtime, [ingest.handler])
    monkeypatch.setattr(transcribe, "redact", fails_once)
    assert len(run(draft.handler, runtime)) == 2
    drafted = [step.state for job in (broken, whole) for step in steps_of(runtime.sessions, job, StepKind.DRAFT)]
    assert sorted(drafted) == ["done", "ready"]
