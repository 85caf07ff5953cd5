"""finetune: FunASR's own trainer makes a new version of a tenant's draft model from exports.

It runs in a process of its own, in an environment with PyTorch, which this one does not have.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from db.models import EventType, Export, FineTune, Json, Split, StepKind
from db.queue.leases import Claim
from db.queue.transaction import JobTransaction
from db.storage import ObjectMissing
from db.training import dataset, exports, versions
from speech.engines import EngineUnavailable
from speech.models.catalogue import sha256
from speech.text.script import normalise
from speech.training.dataset import layout
from tasks import flow
from tasks.errors import INFRASTRUCTURE, LeaseLost, Permanent, Transient
from tasks.runtime import Runtime
from tasks.step import Handler, Work
from tasks.training.export.divide import persons_of
from tasks.training.export.write import clip_of

logger = logging.getLogger(__name__)

BASE = "sensevoice-small-torch"
"""What the catalogue calls the model that a first fine-tuning starts from."""

ROOT = Path(__file__).parents[2]
"""Where our packages lie, for an interpreter in which they are not installed."""

NICE = 10
"""Serving comes first."""

LOOK = 2.0
"""Seconds between two looks at the process."""

TAIL = 2000
"""Characters of a crashed trainer's output that are kept."""


@dataclass(frozen=True, slots=True)
class Base:
    """What a fine-tuning starts from: its folder, and what it is called."""

    folder: Path
    name: str


@dataclass(frozen=True, slots=True)
class Tuned:
    version_id: uuid.UUID
    base: str
    report: Json
    files: Json
    served: float | None
    """Character error rate, on the held-out clips that people corrected, of the drafts that they were shown."""


def work(claims: Sequence[Claim], work: Work) -> list[Tuned]:
    (claim,) = claims
    runtime = work.runtime
    with work.transaction(claim) as tx:
        flow.start_background_job(tx)
    with runtime.sessions() as session:
        order = session.get(FineTune, claim.job_id)
    if order is None:
        raise LeaseLost(f"fine-tuning {claim.job_id} was deleted")
    python = _torch(runtime)
    runtime.settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="finetune-", dir=runtime.settings.data_dir) as name:
        folder = Path(name)
        base = _base(runtime, order.tenant, folder / "base")
        served = _gather(work, claim, order, folder)
        report = _train(work, claim, python, _request(runtime, order, folder, base))
        if report["error"]:
            raise Permanent(report["error"]["code"], report["error"]["message"])
        version_id = uuid.uuid4()
        files = _keep(runtime, version_id, folder / "out" / "export", Path(report["original"]))
    return [Tuned(version_id, base.name, report, files, served)]


def commit(tx: JobTransaction, claim: Claim, tuned: Tuned) -> Mapping[str, Any]:
    order = tx.session.get_one(FineTune, claim.job_id)
    metrics = {name: tuned.report[name] for name in ("cer", "wer", "losses", "clips", "seconds", "parity")}
    metrics["cer"] = {**metrics["cer"], "served": tuned.served}
    order.report = {**metrics, "version_id": str(tuned.version_id)}
    version = versions.register(
        tx.session,
        order.tenant,
        tuned.version_id,
        finetune_id=order.job_id,
        base=tuned.base,
        metrics=metrics,
        files=tuned.files,
        refused=refusal(metrics["cer"]),
    )
    flow.finish_background_job(tx)
    return {"version": version.number, "state": version.state}


def refusal(cer: Mapping[str, float | None]) -> str | None:
    """Why a version is not even tried: on the held-out clips it must beat its base, and what users were shown."""
    mine = cer["export"]
    bar = min(rate for name in ("base", "served") if (rate := cer.get(name)) is not None)
    if mine is not None and mine < bar:
        return None
    return f"Its character error rate on the held-out clips is {mine}, and {bar} without it."


def _discard(runtime: Runtime, tuned: Tuned) -> None:
    runtime.storage.delete(versions.prefix(tuned.version_id) + path for path in tuned.files)


def _torch(runtime: Runtime) -> Path:
    """The interpreter that trains. Raises Permanent."""
    python = runtime.settings.torch_python
    if python is None or not python.is_file():
        raise Permanent(
            "no_torch",
            "Fine-tuning needs an interpreter with PyTorch and FunASR on the gpu worker's machine: "
            "set LONGHAND_TORCH_PYTHON.",
        )
    # not resolved: a virtual environment's link says where its packages are
    return python.absolute()


def _base(runtime: Runtime, tenant: str, folder: Path) -> Base:
    """The version that serves the tenant, else the configured or the catalogue's original. Raises Permanent."""
    with runtime.sessions() as session:
        serving = versions.serving(session, tenant)
    if serving is not None:
        _fetch(runtime, serving.id, serving.files, "original/", folder)
        return Base(folder, str(serving.id))
    configured = runtime.settings.finetune_base
    if configured is not None:
        if not (configured / "model.pt").is_file():
            raise Permanent("no_base_model", f"LONGHAND_FINETUNE_BASE: there is no model.pt in {configured}.")
        return Base(configured.absolute(), configured.name)
    try:
        return Base(runtime.catalogue.locate(BASE).absolute(), BASE)
    except EngineUnavailable as error:
        raise Permanent("no_base_model", f"{error} Or set LONGHAND_FINETUNE_BASE.") from error


def _fetch(runtime: Runtime, version_id: uuid.UUID, files: Json, below: str, folder: Path) -> None:
    """The files of a version under ``below``, checked against their hashes. Raises Permanent."""
    for path, known in files.items():
        if not path.startswith(below):
            continue
        target = folder / path.removeprefix(below)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_bytes(runtime.storage.get(versions.prefix(version_id) + path))
        except ObjectMissing as error:
            raise Permanent("version_files_missing", f"{path} of version {version_id} is gone.") from error
        if sha256(target) != known["sha256"]:
            raise Permanent("version_files_damaged", f"{path} of version {version_id} has another hash.")


def _gather(work: Work, claim: Claim, order: FineTune, folder: Path) -> float | None:
    """Fetch the clips of all exports, each utterance once, and nobody both to learn from and to be measured on.

    Returns the error rate of the drafts that were shown of those held out. Raises Permanent.
    """
    runtime = work.runtime
    with runtime.sessions() as session:
        exported = {export_id: session.get(Export, export_id) for export_id in order.exports}
        speech = dataset.speech_of(session, order.exports)
        held = dataset.held_out(session, order.exports)
    persons = persons_of(speech, runtime.settings.voice_threshold)
    who = {(row.job_id, row.speaker): person for row, person in zip(speech, persons, strict=True)}
    measured = {who[speaker] for speaker in held}
    seen: set[str] = set()
    clips: Counter[Split] = Counter()
    edits = length = 0
    corrected = False
    (folder / "clips").mkdir()
    with ExitStack() as files:
        lists = {split: files.enter_context((folder / f"{split}.jsonl").open("w")) for split in Split}
        for number, sample in enumerate(dataset.accepted(runtime.sessions, order.exports)):
            if number % 100 == 0:
                work.lease.check(claim)
            export = exported[sample.export_id]
            split = Split(sample.split or Split.TRAIN)
            taken = split == Split.TRAIN and who[sample.job_id, sample.speaker] in measured
            # of an utterance that was corrected later, the correction comes first
            known = {sample.fingerprint, f"{sample.job_id}/{sample.segment}"}
            if export is None or taken or not seen.isdisjoint(known):
                continue
            # what nobody corrected is easier: it is measured on only where there is nothing else
            if split == Split.VAL and corrected and not sample.human:
                continue
            clip = clip_of(sample)
            try:
                body = runtime.storage.get(exports.prefix(export) + clip.path)
            except ObjectMissing:
                continue
            seen |= known
            clips[split] += 1
            corrected = corrected or (split == Split.VAL and sample.human)
            path = Path("clips") / f"{number:07d}.flac"
            (folder / path).write_bytes(body)
            line = json.loads(layout.funasr_line(clip)) | {"source": str(path)}
            lists[split].write(json.dumps(line, ensure_ascii=False) + "\n")
            # what nobody corrected was taken because its draft was right: it would flatter the drafts
            if split == Split.VAL and sample.human and clip.candidate.draft is not None:
                wanted = normalise(clip.text)
                edits += Levenshtein.distance(normalise(clip.candidate.draft), wanted)
                length += len(wanted)
    if not clips[Split.TRAIN]:
        raise Permanent("no_training_data", "The exports hold nothing to train on; see why in their rejections.")
    if not clips[Split.VAL]:
        detail = "The exports hold the speech of one person alone; a second is needed to measure what is learnt."
        raise Permanent("no_held_out_data", detail)
    return round(edits / length, 4) if length else None


def _request(runtime: Runtime, order: FineTune, folder: Path, base: Base) -> Path:
    settings = runtime.settings
    request = {
        "train": str(folder / "train.jsonl"),
        "val": str(folder / "val.jsonl"),
        "base": str(base.folder),
        "out": str(folder / "out"),
        "epochs": settings.finetune_epochs,
        "learning_rate": settings.finetune_learning_rate,
        "batch_seconds": settings.finetune_batch_seconds,
        "frozen": settings.finetune_frozen,
        "threads": settings.refine_thread_count,
        "device": "cuda" if settings.device == "cuda" else "cpu",
        **order.options,
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return path


def _train(work: Work, claim: Claim, python: Path, request: Path) -> Json:
    """Run the trainer to its end, telling how far it is. Raises Transient where it crashed."""
    log = request.with_name("log")
    with _running(python, request, log) as process:
        told = 0
        while process.poll() is None:
            work.lease.check(claim)
            told = _tell(work, claim, log, told)
            time.sleep(LOOK)
    report = request.parent / "out" / "report.json"
    if process.returncode or not report.is_file():
        tail = log.read_text(errors="replace")[-TAIL:]
        raise Transient(f"the trainer ended with status {process.returncode}: {tail}")
    return dict(json.loads(report.read_text()))


@contextmanager
def _running(python: Path, request: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            ["nice", f"-n{NICE}", str(python), "-m", "speech.training.tuning", str(request), "--bound"],  # noqa: S607
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            # it ends when this end of the pipe closes, however we go
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _tell(work: Work, claim: Claim, log: Path, told: int) -> int:
    """Announce the epochs that have ended since."""
    epochs = [line for line in log.read_text(errors="replace").splitlines() if line.startswith('{"epoch"')]
    try:
        for line in epochs[told:]:
            with work.transaction(claim) as tx:
                tx.emit(EventType.JOB_PROGRESS, {"training": json.loads(line)})
            told += 1
    except INFRASTRUCTURE as error:
        logger.warning("could not tell of an epoch yet: %s", error)
    return told


def _keep(runtime: Runtime, version_id: uuid.UUID, export: Path, original: Path) -> Json:
    """Store the export, which serves, and the original, which the next fine-tuning starts from."""
    files: Json = {}
    for below, folder in (("export/", export), ("original/", original)):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                runtime.storage.upload(f"{versions.prefix(version_id)}{below}{path.name}", path)
                files[below + path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    return files


handler = Handler(StepKind.FINETUNE, work, commit, deadline=24 * 3600, discard=_discard)
