"""What becomes of a fine-tuning, with a trainer that does what it is told: good, bad, broken, taken away."""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from db.models import FineTune, Job, JobStatus, ModelVersion, StepState, VersionState
from db.queue.transaction import job_transaction
from db.training import finetunes, versions
from tasks.step import run
from tasks.training import finetune
from tests.jobs import steps_of
from tests.media import DATA
from tests.tasks.conftest import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, job_of
from tests.tasks.test_export import LIBRIVOX, exported, said, upload
from tests.waiting import LIMIT, until

TRAINER = """#!{python}
import json, os, pathlib, shutil, sys, time
request = pathlib.Path(sys.argv[3])
folder, given = request.parent, json.loads(request.read_text())
out = folder / "out"
(out / "export").mkdir(parents=True)
(out / "original").mkdir()
{do}
"""
"""Stands where the interpreter with PyTorch does: ``python -m speech.training.tuning REQUEST --bound``."""

REPORT: dict[str, Any] = {
    "status": "done",
    "error": None,
    "losses": [2.0, 1.0],
    "cer": {"base": 0.9, "tuned": 0.4, "export": 0.4},
    "wer": None,
    "clips": {"train": 3, "val": 1, "unreadable": 0, "unfit": 0},
    "seconds": 1.0,
    "parity": {"passed": True, "finding": ""},
}


def done(**changes: Any) -> str:
    """A trainer that reports this, with the files of a small model."""
    return f"""
for path in pathlib.Path({str(DATA / "sensevoice-random")!r}).iterdir():
    shutil.copy(path, out / "export")
(out / "original" / "model.pt").write_text("tuned")
report = json.loads({json.dumps(REPORT | changes)!r})
(out / "report.json").write_text(json.dumps(report | {{"original": str(out / "original")}}))
"""


class Shop:
    """Some exports, and a trainer."""

    def __init__(self, make_runtime: MakeRuntime, folder: Path) -> None:
        self.folder = folder
        self.trainer = folder / "python"
        base = folder / "base"
        base.mkdir()
        (base / "model.pt").write_text("base")
        self.kept = folder / "kept"
        self.runtime: FakeRuntime = make_runtime(
            said,
            said,
            training_tenants=["default"],
            torch_python=self.trainer,
            finetune_base=base,
            data_dir=folder,
            models_dir=folder / "models",
        )
        for name in LIBRIVOX[:3]:
            upload(self.runtime, name)
        self.exports = [exported(self.runtime).job_id]

    def teach(self, do: str) -> None:
        self.trainer.write_text(TRAINER.format(python=sys.executable, do=do))
        self.trainer.chmod(0o755)

    def order(self) -> uuid.UUID:
        with self.runtime.sessions.begin() as session:
            made = finetunes.start_finetune(session, "default", self.exports, 1.0, {"epochs": 7}, automatic=False)
            return made.job.id

    def tune(self) -> Job:
        finetune_id = self.order()
        run(finetune.handler, self.runtime)
        return job_of(self.runtime, finetune_id)

    def versions(self) -> list[ModelVersion]:
        with self.runtime.sessions() as session:
            return list(versions.page(session, "default"))

    def stored(self) -> list[str]:
        return [key for key, _ in self.runtime.storage.list("models/")]


@pytest.fixture
def shop(make_runtime: MakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(finetune, "LOOK", 0.05)
    return Shop(make_runtime, tmp_path)


def test_a_better_model_is_tried(shop: Shop) -> None:
    shop.teach(done())
    job = shop.tune()
    assert (job.status, job.error_message) == (JobStatus.COMPLETED, None)
    (version,) = shop.versions()
    assert (version.state, version.stage, version.base) == (VersionState.CANARY, 5, "base")
    assert version.metrics["cer"] == {**REPORT["cer"], "served": None}  # nobody corrected a draft
    assert {path.rpartition("/")[2] for path in version.files} == {"model.int8.onnx", "tokens.txt", "model.pt"}
    assert len(shop.stored()) == 3


def test_the_trainer_gets_clips_it_can_find_and_the_options_of_the_request(shop: Shop) -> None:
    shop.teach(f'assert list(folder.glob("clips/*.flac"))\nshutil.copytree(folder, {str(shop.kept)!r})\n' + done())
    assert shop.tune().status == JobStatus.COMPLETED
    request = json.loads((shop.kept / "request.json").read_text())
    assert (request["epochs"], request["device"], request["batch_seconds"]) == (7, "cpu", 60)
    train, val = ((shop.kept / f"{name}.jsonl").read_text().splitlines() for name in ("train", "val"))
    assert len(train) + len(val) == 3
    assert val
    assert all(json.loads(line)["source"].startswith("clips/") for line in [*train, *val])
    # nothing is left on the worker's disk
    assert not list(shop.folder.glob("finetune-*"))


@pytest.mark.parametrize("cer", [{"base": 0.4, "tuned": 0.5, "export": 0.5}, {"base": 0.4, "export": 0.4}])
def test_a_model_that_is_no_better_is_not_even_tried(shop: Shop, cer: dict[str, float]) -> None:
    shop.teach(done(cer=cer))
    assert shop.tune().status == JobStatus.COMPLETED
    (version,) = shop.versions()
    assert (version.state, version.stage) == (VersionState.REJECTED, 0)
    with shop.runtime.sessions() as session:
        assert versions.choose(session, "default", uuid.UUID(int=0)) is None


def test_a_tuning_that_diverges_fails_clearly_and_leaves_nothing(shop: Shop) -> None:
    shop.teach(done(error={"code": "diverged", "message": "The loss is nan."}))
    job = shop.tune()
    assert (job.status, job.error_code, job.error_message) == (JobStatus.FAILED, "diverged", "The loss is nan.")
    assert (shop.versions(), shop.stored()) == ([], [])


def test_a_trainer_that_crashes_is_tried_again_and_then_set_aside(shop: Shop) -> None:
    shop.teach('sys.exit("out of luck")')
    finetune_id = shop.order()

    def finished() -> bool:
        run(finetune.handler, shop.runtime)
        return job_of(shop.runtime, finetune_id).status.finished

    until(finished)
    job = job_of(shop.runtime, finetune_id)
    (step,) = steps_of(shop.runtime.sessions, finetune_id)
    assert (job.error_code, step.state, step.attempt) == ("step_failed", StepState.DEAD, 3)
    assert "out of luck" in (step.error or "")


def test_without_data_or_a_second_person_there_is_no_fine_tuning(shop: Shop) -> None:
    shop.teach(done())
    shop.exports = []
    assert shop.tune().error_code == "no_training_data"
    with shop.runtime.sessions.begin() as session:
        session.execute(update(Job).values(completed_at=datetime.now(UTC) - timedelta(days=9)))
    upload(shop.runtime, LIBRIVOX[3])
    shop.exports = [exported(shop.runtime).job_id]
    job = shop.tune()
    assert (job.error_code, "one person" in (job.error_message or "")) == ("no_held_out_data", True)


def test_without_pytorch_or_a_base_it_says_what_is_missing(shop: Shop) -> None:
    assert (job := shop.tune()).error_code == "no_torch"
    assert "LONGHAND_TORCH_PYTHON" in (job.error_message or "")
    shop.teach(done())
    shop.runtime.settings = shop.runtime.settings.model_copy(update={"finetune_base": None})
    assert (job := shop.tune()).error_code == "no_base_model"
    assert "LONGHAND_FINETUNE_BASE" in (job.error_message or "")
    gone = shop.runtime.settings.model_copy(update={"finetune_base": shop.folder / "nowhere"})
    shop.runtime.settings = gone
    assert shop.tune().error_code == "no_base_model"


def test_the_next_fine_tuning_starts_from_what_serves(shop: Shop) -> None:
    shop.teach(done())
    shop.tune()
    (first,) = shop.versions()
    with shop.runtime.sessions.begin() as session:
        versions.promote(session, session.get_one(ModelVersion, first.id), "by hand")
    shop.teach('assert pathlib.Path(given["base"], "model.pt").read_text() == "tuned"\n' + done())
    assert shop.tune().status == JobStatus.COMPLETED
    assert shop.versions()[0].base == str(first.id)
    shop.runtime.storage.delete([f"{versions.prefix(first.id)}original/model.pt"])
    assert shop.tune().error_code == "version_files_missing"


def test_a_cancelled_fine_tuning_ends_its_trainer(shop: Shop) -> None:
    shop.teach(f'pathlib.Path({str(shop.folder)!r}, "pid").write_text(str(os.getpid()))\ntime.sleep(600)')
    shop.runtime.settings = shop.runtime.settings.model_copy(update={"lease_renew_seconds": 0.1})
    finetune_id = shop.order()
    worker = threading.Thread(target=run, args=(finetune.handler, shop.runtime))
    worker.start()
    pid = shop.folder / "pid"
    until(lambda: pid.is_file() and pid.read_text().strip())
    with job_transaction(shop.runtime.sessions, finetune_id) as tx:
        tx.job.status = JobStatus.CANCELLED
        tx.skip_open_steps()
    worker.join(LIMIT)
    assert not worker.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert shop.versions() == []


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_drafts_go_on_when_the_files_of_a_version_are(shop: Shop, damage: str) -> None:
    shop.teach(done())
    shop.tune()
    (version,) = shop.versions()
    key = f"{versions.prefix(version.id)}export/tokens.txt"
    if damage == "gone":
        shop.runtime.storage.delete([key])
    else:
        shop.runtime.storage.put(key, b"other tokens", "text/plain")
    lucky = next(i for n in range(10_000) if versions.share(i := uuid.UUID(int=n << 64)) < 5)
    upload(shop.runtime, LIBRIVOX[3], id=lucky)
    job = job_of(shop.runtime, lucky)
    assert (job.status, job.degraded, job.models["draft"]["engine"]) == (JobStatus.COMPLETED, False, "draft")
    (version,) = shop.versions()
    assert version.state == VersionState.ROLLED_BACK
    assert damage in (version.reason or "")


def test_a_version_drafts_the_jobs_that_it_is_given(shop: Shop) -> None:
    shop.teach(done())
    shop.tune()
    lucky = next(i for n in range(10_000) if versions.share(i := uuid.UUID(int=n << 64)) < 5)
    other = next(i for n in range(10_000) if versions.share(i := uuid.UUID(int=n << 64)) >= 5)
    chosen = {"draft_engine": "whisper"}
    for job_id in (lucky, other):
        upload(shop.runtime, LIBRIVOX[3], id=job_id)
    same = next(i for n in range(10_000, 20_000) if versions.share(i := uuid.UUID(int=n << 64)) < 5)
    upload(shop.runtime, LIBRIVOX[3], id=same, options=chosen)
    models = {job_id: job_of(shop.runtime, job_id).models["draft"] for job_id in (lucky, other, same)}
    assert [models[i]["model"] for i in (lucky, other, same)] == ["version-1", "fake", "fake"]
    (version,) = shop.versions()
    with shop.runtime.sessions() as session:
        record = versions.record(session, version, "default")
        assert session.scalar(select(FineTune.report["version_id"].astext)) == str(version.id)
    assert (record.jobs, record.rejected, record.errors) == (1, 1.0, 0.0)
    assert record.agreement is not None
    assert record.agreement < 0.5
    assert record.rtf is not None
