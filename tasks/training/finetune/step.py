"""The finetune step: from its row to a registered model version."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.access import usage
from db.models import FineTune, Job, Json, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import versions
from speech.training.model_card import CARD_FILE, model_card
from tasks import flow
from tasks.errors import LeaseLost, Permanent
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training.finetune import gate, trainer, version_files
from tasks.training.finetune.base_model import locate_base_model
from tasks.training.finetune.due import Due
from tasks.training.finetune.training_data import TrainingData, write_training_data
from tasks.training.versions import untuned_model

METRICS = ("cer", "wer", "losses", "clips", "seconds", "parity", "gate", "learnt")
"""Of the trainer's report."""


@dataclass(frozen=True, slots=True)
class Tuned:
    version_id: uuid.UUID
    base: str
    engine: str
    metrics: Json
    files: Json
    data: TrainingData
    due: Due


def work(claims: Sequence[Claim], work: Work) -> list[Tuned]:
    (claim,) = claims
    runtime = work.runtime
    with work.transaction(claim) as tx:
        flow.start_background_job(tx)
    with runtime.sessions() as session:
        finetune = session.get(FineTune, claim.job_id)
    if finetune is None:
        raise LeaseLost(f"fine-tuning {claim.job_id} was deleted")
    python = trainer.torch_python(runtime.settings)
    runtime.settings.data_dir.mkdir(parents=True, exist_ok=True)
    _forget_checkpoints(runtime, keep=finetune.job_id)
    with tempfile.TemporaryDirectory(prefix="finetune-", dir=runtime.settings.data_dir) as name:
        folder = Path(name)
        base = locate_base_model(runtime, finetune.tenant, finetune.role, folder / "base")
        data = write_training_data(work, claim, finetune, folder)
        request = trainer.write_request(runtime.settings, finetune, folder, base)
        report = trainer.run_trainer(work, claim, python, request)
        # what ended by itself is not gone on with
        shutil.rmtree(trainer.checkpoint_folder(runtime.settings, finetune.job_id), ignore_errors=True)
        if report["error"]:
            raise Permanent(report["error"]["code"], report["error"]["message"])
        metrics = {name: report[name] for name in METRICS}
        metrics["cer"] = {**metrics["cer"], "served": data.served_cer}
        metrics["origin"] = untuned_model(finetune.role, runtime.settings)
        export, original = folder / "out" / "export", report["original"]
        card = model_card(finetune.role, report["engine"], base.name, data.seconds, metrics, gate.reject(metrics))
        (export / CARD_FILE).write_text(card)
        version_id = uuid.uuid4()
        files = version_files.upload(runtime, version_id, export, Path(original) if original else None)
    due = Due.by(runtime.settings)
    return [Tuned(version_id, base.name, report["engine"], metrics, files, data, due)]


def _forget_checkpoints(runtime: Runtime, *, keep: uuid.UUID) -> None:
    """Delete those of fine-tunings that ended on another machine, or were cancelled."""
    folder = trainer.checkpoint_folder(runtime.settings, keep).parent
    left = [path for path in folder.iterdir() if path.name != str(keep)] if folder.is_dir() else []
    with runtime.sessions() as session:
        for path in left:
            job = session.get(Job, uuid.UUID(path.name))
            if job is None or job.status.finished:
                shutil.rmtree(path, ignore_errors=True)


def commit(tx: JobTransaction, claim: Claim, tuned: Tuned) -> Mapping[str, Any]:
    finetune = tx.session.get_one(FineTune, claim.job_id)
    finetune.report = {**tuned.metrics, "version_id": str(tuned.version_id)}
    version = versions.register(
        tx.session,
        finetune.tenant,
        finetune.role,
        tuned.version_id,
        engine=tuned.engine,
        finetune_id=finetune.job_id,
        base=tuned.base,
        metrics=tuned.metrics,
        files=tuned.files,
        rejection=gate.reject(tuned.metrics),
    )
    flow.finish_background_job(tx)
    tuned.due.start_next(tx)
    engine = {"engine": tuned.engine, "model": tuned.base}
    return {"version": version.number, "state": version.state} | usage.processed(tuned.data.seconds, engine)


def _discard(runtime: Runtime, tuned: Tuned) -> None:
    version_files.delete(runtime, tuned.version_id, tuned.files)


handler = Handler(StepKind.FINETUNE, work, commit, deadline=24 * 3600, discard=_discard)
