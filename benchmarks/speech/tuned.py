"""Word error rates of Whisper before and after one tuning on learners' speech, without a stack around it.

All is kept in a folder: a measurement that was broken off goes on from there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import learners
from benchmarks.recordings import load
from db.settings import get_settings
from speech.asr.whisper.decoding import DRAFT, REFINE
from speech.asr.whisper.engine import WhisperEngine
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Samples, Utterance
from speech.load import load_vad
from speech.models.catalogue import Catalogue
from tasks.training.finetune.gate import reject

HELD_OUT_SHARE = 0.08
"""Of the people."""
ROLES = {"draft": "whisper-tiny.en", "refined": "whisper-base"}
REPOSITORY = Path(__file__).parents[2]


def measure(
    speech: Path,
    roles: Sequence[str],
    minutes: float,
    options: Mapping[str, float],
    folder: Path,
    *,
    corrupt: bool,
) -> Table:
    """``minutes`` of the training speech are used; ``options`` are the tuning's."""
    settings = get_settings()
    catalogue = Catalogue(settings.models_path)
    measured = learners.sets(speech, load_vad(catalogue))
    table = Table("model", *measured, "minutes", "gate", title="word error rates before and after a tuning, int8")
    folder.mkdir(parents=True, exist_ok=True)
    people = learners.training(speech)
    _write_clips(learners.corrupted(people) if corrupt else people, folder, minutes)
    general = str((speech / "manifest.jsonl").absolute())
    for role in roles:
        base = catalogue.locate(ROLES[role])
        report = tune(folder, base, role, {**options, "general": general})
        print(json.dumps({name: report[name] for name in ("losses", "cer", "wer", "gate", "parity")}), flush=True)
        spent, outcome = f"{report['seconds'] / 60:.1f}", reject(report) or "would be tried"
        before = _rates(measured, base, role, folder / f"{role}-{base.name}.json")
        table.add_row(f"{role}, {base.name}", *map(str, before.values()), "", "")
        after = _rates(measured, folder / role / "export", role, folder / role / "rates.json")
        table.add_row(f"{role}, tuned", *map(str, after.values()), spent, outcome)
    return table


def _write_clips(people: Sequence[learners.Spoken], folder: Path, minutes: float) -> None:
    """Clips and lists, as an export has them."""
    (folder / "clips").mkdir(exist_ok=True)
    held_out = max(1, round(HELD_OUT_SHARE * len(people)))
    for name, some in (("val", people[:held_out]), ("train", people[held_out:])):
        lines, seconds = [], 0.0
        for person in some:
            samples = load(person.path)
            for number, (start, end, text) in enumerate(person.segments):
                if seconds > minutes * 60:
                    break
                path = folder / "clips" / f"{person.path.stem}-{number}.flac"
                path.write_bytes(flac.encode(samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]))
                line = {
                    "key": path.stem,
                    "source": f"clips/{path.name}",
                    "target": text,
                    "text_language": "<|en|>",
                }
                lines.append(json.dumps(line))
                seconds += end - start
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


def tune(folder: Path, base: Path, role: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Run the trainer on the lists of a folder, unless that is done already. Returns its report."""
    settings = get_settings()
    out = (folder / role).absolute()
    request = {
        **{name: str((folder / f"{name}.jsonl").absolute()) for name in ("train", "val")},
        **{"base": str(base.absolute()), "out": str(out), "drafts": role == "draft"},
        **{"checkpoints": str((folder / "checkpoints" / role).absolute())},
        "threads": settings.refine_thread_count,
        **options,
    }
    path, finished = folder / f"{role}.json", out / "report.json"
    if not finished.is_file() or json.loads(path.read_text()) != request:
        path.write_text(json.dumps(request))
        (out / "rates.json").unlink(missing_ok=True)
        subprocess.run(
            [str(settings.torch_python), "-m", "speech.training.tuning", str(path)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            check=True,
            stdout=sys.stderr,
        )
    report: dict[str, Any] = json.loads(finished.read_text())
    if report["error"]:
        finished.unlink()
        raise RuntimeError(report["error"])
    return report


def _rates(
    measured: dict[str, learners.Measured], model: Path, role: str, known: Path
) -> dict[str, learners.Rate]:
    """Those in the file ``known``, or measured now."""
    if known.is_file():
        return {name: learners.Rate(**rate) for name, rate in json.loads(known.read_text()).items()}
    decoding = DRAFT if role == "draft" else REFINE
    threads = get_settings().refine_thread_count
    engine = WhisperEngine(model, name="measured", decoding=decoding, device="cpu", threads=threads)

    def transcribe(pieces: Sequence[Samples]) -> list[str]:
        hypotheses = engine.transcribe([Utterance(samples, language="en") for samples in pieces])
        return [phrase.text for hypothesis in hypotheses for phrase in hypothesis.phrases]

    rates = learners.rates(measured, transcribe)
    known.write_text(json.dumps({name: asdict(rate) for name, rate in rates.items()}))
    return rates
