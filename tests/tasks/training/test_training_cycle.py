"""The whole training cycle on real servers, with FunASR's trainer and a small network.

Corrected transcripts become a version that drafts better and passes its canary stages; a worse one is rolled back.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from api.app import create_app
from db.models import FineTune, Job, ModelVersion, Role, VersionState
from db.training import canary, versions
from speech.audio import flac
from speech.engines import Samples, Utterance
from speech.models.catalogue import sha256
from tasks.step import run
from tasks.training.export import step as export
from tasks.training.finetune import gate
from tasks.training.finetune import step as finetune
from tasks.training.finetune.base_model import locate_base_model
from tests.api.conftest import serving
from tests.media import DATA, load
from tests.speech.conversion.test_parity import PYTHON, ROOT
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, job_of, run_until_done
from tests.tasks.training.exports import transcribe_recording
from tests.waiting import avoid_midnight

PHRASES = ("librivox_0880.flac", "librivox_0890.flac", "librivox_0930.flac")
SPEEDS = (0.94, 1.0, 1.06)
"""Each simulates another reader of the same text."""
JOBS_PER_STAGE = 2
TRAINING_OPTIONS = {"epochs": 14, "learning_rate": 2e-3, "batch_seconds": 7}

pytestmark = pytest.mark.skipif(
    not PYTHON.is_file(), reason="no environment with PyTorch here: `make parity` sets one up"
)


def texts() -> dict[str, str]:
    lines = map(json.loads, (DATA / "manifest.jsonl").read_text().splitlines())
    return {line["path"]: line["text"] for line in lines if line["path"] in PHRASES}


def at_speed(samples: Samples, speed: float) -> Samples:
    positions = np.arange(0, len(samples) - 1, speed)
    return np.asarray(np.interp(positions, np.arange(len(samples)), samples), np.float32)


def recordings_with_texts() -> Iterator[tuple[bytes, str]]:
    """FLAC bytes and text of each recording."""
    for name, text in texts().items():
        for speed in SPEEDS:
            yield flac.encode(at_speed(load(name), speed)), text


class TrainingCycle:
    """A runtime whose drafts are wrong, whose refinement is right, and whose base model is untrained."""

    def __init__(self, make_runtime: MakeRuntime, folder: Path) -> None:
        self.texts = {len(flac.decode(body)): text for body, text in recordings_with_texts()}
        self.folder = folder
        self.runtime: FakeRuntime = make_runtime(
            lambda utterance: " ".join(word[::-1] for word in self.truth(utterance).split()),
            self.truth,
            training_tenants=["default"],
            finetune_base=self._seed_model(),
            torch_python=PYTHON,
            canary_jobs=JOBS_PER_STAGE,
            data_dir=folder / "data",
            models_dir=folder / "models",
        )

    def truth(self, utterance: Utterance) -> str:
        return self.texts[len(utterance.samples)]

    def _seed_model(self) -> Path:
        base, lists = self.folder / "base", self.folder / "seed.jsonl"
        lines = []
        for number, (body, text) in enumerate(recordings_with_texts()):
            (self.folder / f"{number}.flac").write_bytes(body)
            tags = {"text_language": "<|en|>", "emo_target": "<|EMO_UNKNOWN|>", "event_target": "<|Speech|>"}
            lines.append(
                {
                    "key": str(number),
                    "source": f"{number}.flac",
                    "source_len": 300,
                    "target": text,
                    "target_len": 9,
                }
                | {**tags, "with_or_wo_itn": "<|withitn|>"}
            )
        lists.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        command = [str(PYTHON), "-m", "speech.training.tuning.sensevoice.seed", str(lists), str(base)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return base

    def transcribe(self, body: bytes, **values: Any) -> uuid.UUID:
        path = self.folder / f"{uuid.uuid4()}.flac"
        path.write_bytes(body)
        return transcribe_recording(self.runtime, str(path), **values)

    def assigned_job_id(self, stage: int, number: int) -> uuid.UUID:
        """A job id that is assigned to a canary at this stage."""
        return next(
            i
            for n in range(number * 10_000, 10**9)
            if versions.bucket(i := uuid.UUID(int=n << 64), Role.DRAFT) < stage
        )

    def version(self, version_id: uuid.UUID) -> ModelVersion:
        with self.runtime.sessions() as session:
            return session.get_one(ModelVersion, version_id)

    def register_version(self, folder: Path) -> ModelVersion:
        """A version of the files in a folder, as a fine-tuning registers it."""
        version_id = uuid.uuid4()
        files = {}
        for path in folder.iterdir():
            files[f"export/{path.name}"] = {"sha256": sha256(path), "bytes": path.stat().st_size}
            self.runtime.storage.upload(f"{versions.prefix(version_id)}export/{path.name}", path)
        with self.runtime.sessions.begin() as session:
            return versions.register(
                *(session, "default", Role.DRAFT, version_id),
                engine="sensevoice",
                finetune_id=None,
                base="x",
                metrics={},
                files=files,
                rejection=None,
            )


@pytest.fixture
def cycle(make_runtime: MakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingCycle:
    avoid_midnight()
    # the fake incumbent takes no time: every real model is slower
    monkeypatch.setattr(canary, "RTF_SLACK", 100.0)
    # nine recordings are too few to prove a gain
    monkeypatch.setattr(gate, "MAX_CHANCE", 1.0)
    return TrainingCycle(make_runtime, tmp_path)


def test_corrections_lead_to_better_drafts(cycle: TrainingCycle) -> None:
    runtime = cycle.runtime
    recordings = list(recordings_with_texts())
    with serving(create_app(runtime.settings), runtime.settings) as client:
        for number, (body, text) in enumerate(recordings):
            # a hash of the job ids decides who is held out
            _correct(client, cycle.transcribe(body, id=uuid.UUID(int=number)), text)
        created = client.post("/v1/exports", json={"date": _today(runtime)}).json()
        run_until_done(runtime, [export.handler])
        manifest = client.get(f"/v1/exports/{created['id']}").json()["manifest"]
        counts = {name: split["clips"] for name, split in manifest["splits"].items()}
        assert sum(counts.values()) == len(recordings)
        assert counts["val"] >= 1

        started = client.post("/v1/finetunes", json=TRAINING_OPTIONS).json()
        run(finetune.handler, runtime)
        tuned = client.get(f"/v1/finetunes/{started['id']}").json()
        assert (tuned["status"], tuned["error"]) == ("completed", None)
        cer = tuned["report"]["cer"]
        assert cer["export"] < min(cer["base"], cer["served"])
        losses = tuned["report"]["losses"]
        assert losses[-1] < losses[0] / 2
        (listed,) = client.get("/v1/model-versions").json()["data"]
        assert (listed["state"], listed["stage"], listed["number"]) == ("canary", 5, 1)
        version_id = uuid.UUID(listed["id"])

        number = 1
        for stage in versions.STAGE_PERCENTS:
            for _ in range(JOBS_PER_STAGE):
                assert cycle.version(version_id).stage == stage
                job_id = cycle.transcribe(recordings[number][0], id=cycle.assigned_job_id(stage, number))
                assert job_of(runtime, job_id).models["draft"]["model"] == "version-1"
                number += 1
        served = client.get(f"/v1/model-versions/{version_id}").json()
        assert (served["state"], served["stage"]) == ("serving", 100)
        assert served["record"]["jobs"] == 3 * JOBS_PER_STAGE
        with runtime.sessions() as session:
            incumbent = canary.average_signals(session, None, "default", Role.DRAFT)
        assert served["record"]["agreement"] > incumbent.agreement + 0.3  # type: ignore[operator]

    # the next fine-tuning starts from the serving version
    with runtime.sessions() as session:
        assert session.scalar(select(FineTune.report["version_id"].astext)) == str(version_id)
    base = locate_base_model(runtime, "default", Role.DRAFT, cycle.folder / "next")
    assert (base.name, (base.folder / "model.pt").is_file()) == (str(version_id), True)

    # a bad candidate is rolled back
    worse = cycle.register_version(DATA / "sensevoice-random")
    for number in range(30, 33):
        if cycle.version(worse.id).state == VersionState.CANARY:
            job_id = cycle.transcribe(recordings[0][0], id=cycle.assigned_job_id(5, number))
            assert job_of(runtime, job_id).models["draft"]["model"] == "version-2"
    rolled_back = cycle.version(worse.id)
    assert (rolled_back.state, rolled_back.stage) == (VersionState.ROLLED_BACK, 0)
    assert "agree" in (rolled_back.reason or "")
    job_id = cycle.transcribe(recordings[0][0], id=cycle.assigned_job_id(5, 40))
    assert job_of(runtime, job_id).models["draft"]["model"] == "version-1"


def _today(runtime: FakeRuntime) -> str:
    with runtime.sessions() as session:
        moment = session.scalar(select(Job.completed_at).order_by(Job.completed_at.desc()).limit(1))
    assert moment is not None
    return moment.date().isoformat()


def _correct(client: httpx.Client, job_id: uuid.UUID, text: str) -> None:
    (segment,) = client.get(f"/v1/jobs/{job_id}/transcript").json()["segments"]
    answer = client.patch(f"/v1/jobs/{job_id}/segments/{segment['index']}", json={"text": f"{text}."})
    assert answer.json()["source"] == "human"
