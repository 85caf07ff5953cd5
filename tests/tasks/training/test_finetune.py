"""The finetune step with a scripted trainer: better and worse models, crashes, cancellation."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db.models import (
    FineTune,
    Job,
    JobStatus,
    ModelVersion,
    Role,
    Sample,
    Step,
    StepState,
    UsageRecord,
    VersionState,
)
from db.queue.transaction import job_transaction
from db.training import canary, finetunes, versions
from speech.engines import EngineUnavailable, Transcriber
from tasks.step import run
from tasks.training import signals
from tasks.training.finetune import step as finetune
from tasks.training.finetune import trainer
from tasks.training.finetune.gate import reject
from tasks.training.versions import VersionCache
from tests.conftest import MODELS
from tests.jobs import steps_of
from tests.media import DATA
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, counted, job_of
from tests.tasks.training.exports import RECORDINGS, run_export, transcribe_recording, unique_words
from tests.waiting import LIMIT_SECONDS, until

WHISPER = MODELS / "whisper-tiny.en"

TRAINER_SCRIPT = """#!{python}
import json, os, pathlib, shutil, sys, time
request = pathlib.Path(sys.argv[3])
folder, options = request.parent, json.loads(request.read_text())
out = folder / "out"
(out / "export").mkdir(parents=True)
(out / "original").mkdir()
{body}
"""
"""Replaces the interpreter with PyTorch: ``python -m speech.training.tuning REQUEST --bound``."""

REPORT: dict[str, Any] = {
    "status": "done",
    "error": None,
    "losses": [2.0, 1.0],
    "cer": {"base": 0.9, "tuned": 0.4, "export": 0.4},
    "wer": None,
    "clips": {"train": 3, "val": 1, "unreadable": 0, "unfit": 0},
    "seconds": 1.0,
    "parity": {"passed": True, "finding": ""},
    "engine": "sensevoice",
    "gate": {"chance": 0.0},
    "learnt": [],
}


def reporting(**changes: Any) -> str:
    """A trainer body that writes this report and the files of a small model."""
    return f"""
for path in pathlib.Path({str(DATA / "sensevoice-random")!r}).iterdir():
    shutil.copy(path, out / "export")
(out / "original" / "model.pt").write_text("tuned")
report = json.loads({json.dumps(REPORT | changes)!r})
(out / "report.json").write_text(json.dumps(report | {{"original": str(out / "original")}}))
"""


def reporting_whisper() -> str:
    """The same, with a Whisper that serves as it is tuned further."""
    return f"""
for path in pathlib.Path({str(WHISPER)!r}).iterdir():
    os.symlink(path, out / "export" / path.name)
report = json.loads({json.dumps(REPORT | {"engine": "whisper", "original": None})!r})
(out / "report.json").write_text(json.dumps(report))
"""


class FineTuning:
    """A runtime with exports and a scripted trainer."""

    def __init__(self, make_runtime: MakeRuntime, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "python"
        base = folder / "base"
        base.mkdir()
        (base / "model.pt").write_text("base")
        self.copy = folder / "copy"
        self.runtime: FakeRuntime = make_runtime(
            unique_words,
            unique_words,
            training_tenants=["default"],
            torch_python=self.script,
            finetune_base=base,
            data_dir=folder,
            models_dir=folder / "models",
        )
        for name in RECORDINGS[:3]:
            transcribe_recording(self.runtime, name)
        self.exports = [run_export(self.runtime).job_id]

    def script_trainer(self, body: str) -> None:
        self.script.write_text(TRAINER_SCRIPT.format(python=sys.executable, body=body))
        self.script.chmod(0o755)

    def enqueue(self, role: Role = Role.DRAFT) -> uuid.UUID:
        with self.runtime.sessions.begin() as session:
            transaction = finetunes.start_finetune(
                session, "default", role, self.exports, 1.0, {"epochs": 7}, automatic=False
            )
            return transaction.job.id

    def run(self, role: Role = Role.DRAFT) -> Job:
        finetune_id = self.enqueue(role)
        run(finetune.handler, self.runtime)
        return job_of(self.runtime, finetune_id)

    def versions(self) -> list[ModelVersion]:
        with self.runtime.sessions() as session:
            return list(versions.newest_first(session, "default"))

    def stored_keys(self) -> list[str]:
        return [key for key, _ in self.runtime.storage.list("models/")]


@pytest.fixture
def finetuning(make_runtime: MakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FineTuning:
    monkeypatch.setattr(trainer, "POLL_SECONDS", 0.05)
    return FineTuning(make_runtime, tmp_path)


def test_a_better_model_becomes_a_canary(finetuning: FineTuning) -> None:
    finetuning.script_trainer(reporting())
    job = finetuning.run()
    assert (job.status, job.error_message) == (JobStatus.COMPLETED, None)
    (version,) = finetuning.versions()
    assert (version.state, version.stage, version.base) == (VersionState.CANARY, 5, "base")
    assert version.metrics["cer"] == {**REPORT["cer"], "served": None}  # nobody corrected a draft
    files = {"export/model.int8.onnx", "export/tokens.txt", "export/README.md", "original/model.pt"}
    assert set(version.files) == files
    assert len(finetuning.stored_keys()) == 4
    with finetuning.runtime.sessions() as session:
        (used,) = session.scalars(select(UsageRecord).where(UsageRecord.job_id == job.id))
        seconds = session.scalar(select(func.sum(Sample.seconds)).where(Sample.reason.is_(None)))
        assert (used.stage, used.engine, used.model) == ("finetune", "sensevoice", "base")
        assert used.audio_seconds == pytest.approx(seconds)


def test_the_trainer_gets_clips_and_options(finetuning: FineTuning) -> None:
    finetuning.script_trainer(
        f'assert list(folder.glob("clips/*.flac"))\nshutil.copytree(folder, {str(finetuning.copy)!r})\n'
        + reporting()
    )
    assert finetuning.run().status == JobStatus.COMPLETED
    request = json.loads((finetuning.copy / "request.json").read_text())
    assert (request["epochs"], request["device"], request["batch_seconds"]) == (7, "cpu", 60)
    train, val = ((finetuning.copy / f"{name}.jsonl").read_text().splitlines() for name in ("train", "val"))
    assert len(train) + len(val) == 3
    assert val
    assert all(json.loads(line)["source"].startswith("clips/") for line in [*train, *val])
    # nothing is left on the worker's disk
    assert not list(finetuning.folder.glob("finetune-*"))


@pytest.mark.parametrize("cer", [{"base": 0.4, "tuned": 0.5, "export": 0.5}, {"base": 0.4, "export": 0.4}])
def test_a_model_that_is_no_better_is_rejected(finetuning: FineTuning, cer: dict[str, float]) -> None:
    finetuning.script_trainer(reporting(cer=cer))
    assert finetuning.run().status == JobStatus.COMPLETED
    (version,) = finetuning.versions()
    assert (version.state, version.stage) == (VersionState.REJECTED, 0)
    with finetuning.runtime.sessions() as session:
        assert versions.select_for_job(session, "default", Role.DRAFT, uuid.UUID(int=0)) is None


def test_a_diverged_training_fails_the_job_and_stores_nothing(finetuning: FineTuning) -> None:
    finetuning.script_trainer(reporting(error={"code": "diverged", "message": "The loss is nan."}))
    job = finetuning.run()
    assert (job.status, job.error_code, job.error_message) == (JobStatus.FAILED, "diverged", "The loss is nan.")
    assert (finetuning.versions(), finetuning.stored_keys()) == ([], [])


def test_a_crashed_trainer_is_retried_until_its_step_is_dead(finetuning: FineTuning) -> None:
    finetuning.script_trainer('sys.exit("out of luck")')
    finetune_id = finetuning.enqueue()

    def finished() -> bool:
        run(finetune.handler, finetuning.runtime)
        return job_of(finetuning.runtime, finetune_id).status.finished

    until(finished)
    job = job_of(finetuning.runtime, finetune_id)
    (step,) = steps_of(finetuning.runtime.sessions, finetune_id)
    assert (job.error_code, step.state, step.attempt) == ("step_failed", StepState.DEAD, 3)
    assert "out of luck" in (step.error or "")


def test_fine_tuning_needs_data_of_two_people(finetuning: FineTuning) -> None:
    finetuning.script_trainer(reporting())
    finetuning.exports = []
    assert finetuning.run().error_code == "no_training_data"
    with finetuning.runtime.sessions.begin() as session:
        session.execute(update(Job).values(completed_at=datetime.now(UTC) - timedelta(days=9)))
    transcribe_recording(finetuning.runtime, RECORDINGS[3])
    finetuning.exports = [run_export(finetuning.runtime).job_id]
    job = finetuning.run()
    assert (job.error_code, "one person" in (job.error_message or "")) == ("no_held_out_data", True)


def test_a_missing_interpreter_or_base_is_reported(finetuning: FineTuning) -> None:
    assert (job := finetuning.run()).error_code == "no_torch"
    assert "LONGHAND_TORCH_PYTHON" in (job.error_message or "")
    finetuning.script_trainer(reporting())
    finetuning.runtime.settings = finetuning.runtime.settings.model_copy(update={"finetune_base": None})
    assert (job := finetuning.run()).error_code == "no_base_model"
    assert "LONGHAND_FINETUNE_BASE" in (job.error_message or "")
    missing_base = finetuning.runtime.settings.model_copy(update={"finetune_base": finetuning.folder / "nowhere"})
    finetuning.runtime.settings = missing_base
    assert finetuning.run().error_code == "no_base_model"


def test_the_next_fine_tuning_starts_from_the_serving_version(finetuning: FineTuning) -> None:
    finetuning.script_trainer(reporting())
    finetuning.run()
    (first,) = finetuning.versions()
    with finetuning.runtime.sessions.begin() as session:
        versions.promote(session, session.get_one(ModelVersion, first.id), "by hand")
    finetuning.script_trainer(
        'assert pathlib.Path(options["base"], "model.pt").read_text() == "tuned"\n' + reporting()
    )
    assert finetuning.run().status == JobStatus.COMPLETED
    assert finetuning.versions()[0].base == str(first.id)
    finetuning.runtime.storage.delete([f"{versions.prefix(first.id)}original/model.pt"])
    dead = counted("longhand_dead_steps_total", kind="finetune")
    assert finetuning.run().error_code == "version_files_missing"
    assert counted("longhand_dead_steps_total", kind="finetune") == dead + 1
    # of another model, none serves or is tuned further
    other = finetuning.folder / "other"
    shutil.copytree(finetuning.folder / "base", other)
    changed = finetuning.runtime.settings.model_copy(update={"finetune_base": other})
    with pytest.raises(EngineUnavailable, match="other: it serves until"):
        VersionCache(changed, finetuning.runtime.sessions, finetuning.runtime.storage).load(first.id)
    finetuning.runtime.settings = changed
    finetuning.script_trainer(reporting())
    assert finetuning.run().status == JobStatus.COMPLETED
    assert finetuning.versions()[0].base == "other"


def test_cancelling_kills_the_trainer(finetuning: FineTuning) -> None:
    finetuning.script_trainer(
        f'pathlib.Path({str(finetuning.folder)!r}, "pid").write_text(str(os.getpid()))\ntime.sleep(600)'
    )
    finetuning.runtime.settings = finetuning.runtime.settings.model_copy(update={"lease_renew_seconds": 0.1})
    finetune_id = finetuning.enqueue()
    worker = threading.Thread(target=run, args=(finetune.handler, finetuning.runtime))
    worker.start()
    pid = finetuning.folder / "pid"
    until(lambda: pid.is_file() and pid.read_text().strip())
    with job_transaction(finetuning.runtime.sessions, finetune_id) as tx:
        tx.job.status = JobStatus.CANCELLED
        tx.skip_open_steps()
    worker.join(LIMIT_SECONDS)
    assert not worker.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert finetuning.versions() == []


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_version_with_lost_files_is_rolled_back(finetuning: FineTuning, damage: str) -> None:
    finetuning.script_trainer(reporting())
    finetuning.run()
    (version,) = finetuning.versions()
    key = f"{versions.prefix(version.id)}export/tokens.txt"
    if damage == "gone":
        finetuning.runtime.storage.delete([key])
    else:
        finetuning.runtime.storage.put(key, b"other tokens", "text/plain")
    assigned = next(i for n in range(10_000) if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) < 5)
    transcribe_recording(finetuning.runtime, RECORDINGS[3], id=assigned)
    job = job_of(finetuning.runtime, assigned)
    assert (job.status, job.degraded, job.models["draft"]["engine"]) == (JobStatus.COMPLETED, False, "draft")
    (version,) = finetuning.versions()
    assert version.state == VersionState.ROLLED_BACK
    assert damage in (version.reason or "")


def test_a_version_drafts_the_jobs_assigned_to_it(finetuning: FineTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    finetuning.script_trainer(reporting())
    finetuning.run()
    assigned = next(i for n in range(10_000) if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) < 5)
    unassigned = next(i for n in range(10_000) if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) >= 5)
    own_engine = {"draft_engine": "whisper"}
    # what this machine has no memory for may serve on others
    with monkeypatch.context() as patched:
        patched.setattr("tasks.training.versions.load_tuned_draft", _fail_for_memory)
        unloaded = next(
            i for n in range(20_000, 30_000) if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) < 5
        )
        transcribe_recording(finetuning.runtime, RECORDINGS[3], id=unloaded)
    assert job_of(finetuning.runtime, unloaded).models["draft"]["model"] == "fake"
    assert finetuning.versions()[0].state == VersionState.CANARY
    for job_id in (assigned, unassigned):
        transcribe_recording(finetuning.runtime, RECORDINGS[3], id=job_id)
    with_engine = next(
        i for n in range(10_000, 20_000) if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) < 5
    )
    transcribe_recording(finetuning.runtime, RECORDINGS[3], id=with_engine, options=own_engine)
    models = {
        job_id: job_of(finetuning.runtime, job_id).models["draft"]
        for job_id in (assigned, unassigned, with_engine)
    }
    assert [models[i]["model"] for i in (assigned, unassigned, with_engine)] == ["version-1", "fake", "fake"]
    (version,) = finetuning.versions()
    with finetuning.runtime.sessions() as session:
        averages = canary.average_signals(session, version, "default", Role.DRAFT)
        assert session.scalar(select(FineTune.report["version_id"].astext)) == str(version.id)
    assert (averages.jobs, averages.rejected, averages.errors) == (1, 1.0, 0.0)
    assert averages.agreement is not None
    assert averages.agreement < 0.5
    assert averages.rtf is not None


def _fail_for_memory(*_: object, **__: object) -> Transcriber:
    raise EngineUnavailable("Whisper tuned cannot load on cuda: out of memory")


def test_a_version_refines_the_jobs_assigned_to_it(finetuning: FineTuning) -> None:
    finetuning.runtime.settings = finetuning.runtime.settings.model_copy(update={"refine_model": str(WHISPER)})
    finetuning.script_trainer(
        'assert options["base"] == options["origin"] and not options["drafts"]\n' + reporting_whisper()
    )
    job = finetuning.run(Role.REFINED)
    assert (job.status, job.error_message) == (JobStatus.COMPLETED, None)
    (version,) = finetuning.versions()
    assert (version.role, version.engine, version.base) == (Role.REFINED, "whisper", WHISPER.name)
    card = finetuning.runtime.storage.get(f"{versions.prefix(version.id)}export/README.md").decode()
    assert "0.900" in card
    with finetuning.runtime.sessions.begin() as session:
        versions.promote(session, session.get_one(ModelVersion, version.id), "by hand")
        assert versions.serving(session, "default", Role.DRAFT) is None
    refined = transcribe_recording(finetuning.runtime, RECORDINGS[3])
    models = job_of(finetuning.runtime, refined).models
    assert (models["draft"]["model"], models["refine"]["model"]) == ("fake", "version-1")
    with finetuning.runtime.sessions() as session:
        averages = canary.average_signals(session, version, "default", Role.REFINED)
        assert (averages.jobs, averages.errors, averages.loops) == (1, 0.0, 0.0)
        assert canary.average_signals(session, None, "default", Role.DRAFT).jobs == 4
    # one that fails on every chunk is judged by that
    with finetuning.runtime.sessions.begin() as session:
        failed = session.get_one(Job, refined)
        failed.models = {"draft": failed.models["draft"]}
    assert signals.measure(finetuning.runtime, failed, Role.REFINED) is None
    with finetuning.runtime.sessions.begin() as session:
        session.execute(update(Step).where(Step.job_id == refined).values(state=StepState.DEAD))
    signal = signals.measure(finetuning.runtime, failed, Role.REFINED)
    assert signal is not None
    assert signal.errors == 1.0
    # the next one starts from what serves, and loses nothing against what was never tuned
    finetuning.script_trainer(
        'assert pathlib.Path(options["base"], "model.bin").is_file()\n'
        f'assert options["origin"] == {str(WHISPER)!r}\n' + reporting_whisper()
    )
    assert finetuning.run(Role.REFINED).status == JobStatus.COMPLETED
    assert finetuning.versions()[0].base == str(version.id)
    # of another model, none serves or is tuned further
    (other := finetuning.folder / "whisper-other").symlink_to(WHISPER)
    changed = finetuning.runtime.settings.model_copy(update={"refine_model": str(other)})
    with pytest.raises(EngineUnavailable, match="whisper-other: it serves until"):
        VersionCache(changed, finetuning.runtime.sessions, finetuning.runtime.storage).load(version.id)
    finetuning.runtime.settings = changed
    finetuning.script_trainer(reporting_whisper())
    assert finetuning.run(Role.REFINED).status == JobStatus.COMPLETED
    assert finetuning.versions()[0].base == other.name


def test_what_whole_recordings_gave_is_no_bar_for_clips() -> None:
    heard = {"base": 0.27, "export": 0.2, "served": 0.14}
    assert reject({"cer": heard, "gate": {"chance": 0.0}}) is None
    assert "0.28, and 0.27 without" in str(reject({"cer": heard | {"export": 0.28}, "gate": {"chance": 0.0}}))


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"chance": 0.2}, "chance"),
        ({"chance": 0.2, "doubted": 0.1}, "cannot be heard"),
        ({"chance": 0.0, "general": {"clips": 9, "origin": 0.05, "export": 0.056}}, "general speech"),
        ({"chance": 0.0, "general": {"clips": 0}}, "could be measured"),
        ({"chance": 0.0, "general": {"clips": 9, "export": 0.05}}, "could be measured"),
        ({"chance": 0.0, "doubted": 0.05, "general": {"clips": 9, "origin": 0.05, "export": 0.054}}, None),
    ],
)
def test_the_gate_says_why(gate: dict[str, Any], reason: str | None) -> None:
    rejection = reject({"cer": REPORT["cer"], "gate": gate})
    assert rejection is None if reason is None else reason in (rejection or "")


def test_a_role_that_fails_keeps_no_other_from_its_turn(finetuning: FineTuning) -> None:
    def start_next() -> Role:
        with finetuning.runtime.sessions.begin() as session:
            started = finetunes.start_next_if_due(session, "default", [Role.DRAFT, Role.REFINED], 1, 3600)
            assert started is not None
            return session.get_one(FineTune, started.job.id).role

    finetuning.script_trainer(reporting(error={"code": "diverged", "message": "The loss is nan."}))
    tried = []
    for _ in range(3):
        tried.append(start_next())
        run(finetune.handler, finetuning.runtime)
    assert tried == [Role.DRAFT, Role.REFINED, Role.DRAFT]


def test_older_exports_are_gone_through_again(finetuning: FineTuning) -> None:
    finetuning.script_trainer(reporting())
    finetuning.run()
    with finetuning.runtime.sessions() as session:
        for role, new in ((Role.DRAFT, ()), (Role.REFINED, tuple(finetuning.exports))):
            material = finetunes.material(session, "default", role, 3600)
            assert (material.new, material.exports) == (new, finetuning.exports)
        assert finetunes.material(session, "default", Role.DRAFT, 1).exports == []
