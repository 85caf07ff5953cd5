"""The finetune step: from its row to a registered model version."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.access import usage
from db.models import FineTune, Json, StepKind
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import versions
from speech.models.names import DraftEngine
from tasks import flow
from tasks.errors import LeaseLost, Permanent
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training.finetune import trainer, version_files
from tasks.training.finetune.base_model import locate_base_model
from tasks.training.finetune.training_data import TrainingData, write_training_data


@dataclass(frozen=True, slots=True)
class Tuned:
    version_id: uuid.UUID
    base: str
    report: Json
    files: Json
    data: TrainingData


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
    with tempfile.TemporaryDirectory(prefix="finetune-", dir=runtime.settings.data_dir) as name:
        folder = Path(name)
        base = locate_base_model(runtime, finetune.tenant, folder / "base")
        data = write_training_data(work, claim, finetune, folder)
        request = trainer.write_request(runtime.settings, finetune, folder, base)
        report = trainer.run_trainer(work, claim, python, request)
        if report["error"]:
            raise Permanent(report["error"]["code"], report["error"]["message"])
        version_id = uuid.uuid4()
        files = version_files.upload(runtime, version_id, folder / "out" / "export", Path(report["original"]))
    return [Tuned(version_id, base.name, report, files, data)]


def commit(tx: JobTransaction, claim: Claim, tuned: Tuned) -> Mapping[str, Any]:
    finetune = tx.session.get_one(FineTune, claim.job_id)
    metrics = {name: tuned.report[name] for name in ("cer", "wer", "losses", "clips", "seconds", "parity")}
    metrics["cer"] = {**metrics["cer"], "served": tuned.data.served_cer}
    finetune.report = {**metrics, "version_id": str(tuned.version_id)}
    version = versions.register(
        tx.session,
        finetune.tenant,
        tuned.version_id,
        finetune_id=finetune.job_id,
        base=tuned.base,
        metrics=metrics,
        files=tuned.files,
        rejection=rejection(metrics["cer"]),
    )
    flow.finish_background_job(tx)
    engine = {"engine": DraftEngine.SENSEVOICE, "model": tuned.base}
    return {"version": version.number, "state": version.state} | usage.processed(tuned.data.seconds, engine)


def rejection(cer: Mapping[str, float | None]) -> str | None:
    """Why a version is rejected: on the held-out clips it must beat its base, and the drafts that users saw."""
    exported = cer["export"]
    bar = min(rate for name in ("base", "served") if (rate := cer.get(name)) is not None)
    if exported is not None and exported < bar:
        return None
    return f"Its character error rate on the held-out clips is {exported}, and {bar} without it."


def _discard(runtime: Runtime, tuned: Tuned) -> None:
    version_files.delete(runtime, tuned.version_id, tuned.files)


handler = Handler(StepKind.FINETUNE, work, commit, deadline=24 * 3600, discard=_discard)
