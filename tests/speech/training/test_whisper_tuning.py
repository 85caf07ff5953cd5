"""Fine-tuning Whisper in the environment with PyTorch: three phrases, as somebody keeps correcting them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from speech.asr.whisper.decoding import DRAFT
from speech.asr.whisper.engine import WhisperEngine
from speech.engines import Utterance
from speech.models.ctranslate2_file import read_variables, replace_variables
from tests.conftest import MODELS
from tests.media import DATA, load
from tests.speech.conversion.test_parity import PYTHON, ROOT

BASE = MODELS / "whisper-tiny.en"
CORRECTED = {
    "librivox_0880.flac": "He was not an ill disposed yung mann.",
    "librivox_0890.flac": "Unless to be rather cold harted and rather selfish is to be ill disposed.",
    "librivox_0930.flac": "He might even have been made amiabel himself.",
}
"""What Whisper writes otherwise."""


@dataclass(frozen=True)
class Tuned:
    folder: Path
    broken_off: list[dict[str, Any]]
    """Progress until the first process was killed."""
    resumed: list[dict[str, Any]]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """The training is killed in its second epoch, and another process goes on with it."""
    if not PYTHON.is_file():
        pytest.skip("no environment with PyTorch here: `make parity` sets one up")
    folder = tmp_path_factory.mktemp("whisper")
    lines = []
    for name, text in CORRECTED.items():
        shutil.copyfile(DATA / name, folder / name)
        lines.append(json.dumps({"key": name, "source": name, "target": text, "text_language": "<|en|>"}))
    chinese = json.dumps({"key": "zh", "source": name, "target": "你好", "text_language": "<|zh|>"})
    broken = json.dumps({"key": "broken", "source": "no.flac", "target": "x", "text_language": "<|en|>"})
    (folder / "train.jsonl").write_text("\n".join([*lines, chinese, broken]))
    (folder / "val.jsonl").write_text("\n".join(lines))
    general = [json.loads(line) for line in (DATA / "manifest.jsonl").read_text().splitlines()][:2]
    rows = [json.dumps(row | {"path": str(DATA / row["path"])}) for row in general]
    (folder / "general.jsonl").write_text("\n".join(rows))
    request = {
        **{"train": "train.jsonl", "val": "val.jsonl", "base": str(BASE), "out": "out", "epochs": 6},
        **{"learning_rate": 1e-4, "batch_seconds": 30, "threads": 2, "general": "general.jsonl"},
        "checkpoints": "checkpoints",
    }
    (folder / "request.json").write_text(json.dumps(request))
    command = [str(PYTHON), "-m", "speech.training.tuning", str(folder / "request.json")]
    broken_off = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as first:
        for line in first.stdout or ():
            broken_off.append(json.loads(line))
            if broken_off[-1].get("epoch") == 2:  # the first is kept by now
                break
        first.kill()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((folder / "out" / "report.json").read_text())
    return Tuned(folder, broken_off, [json.loads(line) for line in done.stdout.splitlines()], report)


@pytest.mark.tuning
def test_what_was_corrected_is_learnt(tuned: Tuned) -> None:
    report = tuned.report
    assert (report["status"], report["error"], report["engine"]) == ("done", None, "whisper")
    assert report["wer"]["base"] > 0.1 > report["wer"]["export"]
    assert report["clips"] == {"train": 3, "val": 3, "unreadable": 1, "unfit": 1}
    assert report["losses"][-1] < report["losses"][0] / 2
    assert set(report["learnt"]) <= set(CORRECTED)
    assert report["learnt"]


@pytest.mark.tuning
def test_the_export_is_what_was_tuned_and_serves(tuned: Tuned) -> None:
    assert tuned.report["parity"]["passed"]
    export = tuned.folder / "out" / "export"
    assert {path.name for path in export.iterdir()} >= {"config.json", "model.bin", "tokenizer.json"}
    engine = WhisperEngine(export, name="tuned", decoding=DRAFT, device="cpu", threads=1)
    (hypothesis,) = engine.transcribe([Utterance(load("librivox_0880.flac"), language="en")])
    assert "yung mann" in " ".join(phrase.text for phrase in hypothesis.phrases)
    # segments still have ends
    assert 2 < hypothesis.phrases[-1].end <= 3.2


@pytest.mark.tuning
def test_the_gate_has_its_figures(tuned: Tuned) -> None:
    gate = tuned.report["gate"]
    assert gate["chance"] == 1  # three clips prove nothing
    assert gate["doubted"] < 0.05
    assert gate["general"]["clips"] == 2
    assert gate["general"]["origin"] < 0.2


@pytest.mark.tuning
def test_a_later_tuning_is_compared_with_the_untuned_model_too(tuned: Tuned) -> None:
    request = json.loads((tuned.folder / "request.json").read_text())
    # as little as can be learnt
    request |= {"base": str(tuned.folder / "out" / "export"), "origin": str(BASE), "out": "later"}
    request |= {"epochs": 1, "learning_rate": 1e-9, "checkpoints": "later-checkpoints"}
    (tuned.folder / "later.json").write_text(json.dumps(request))
    command = [str(PYTHON), "-m", "speech.training.tuning", str(tuned.folder / "later.json")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    report = json.loads((tuned.folder / "later" / "report.json").read_text())
    assert report["wer"]["untuned"] == tuned.report["wer"]["base"]
    assert report["wer"]["base"] == tuned.report["wer"]["export"] < report["wer"]["untuned"]


@pytest.mark.tuning
def test_a_training_that_was_broken_off_goes_on(tuned: Tuned) -> None:
    epochs = [event["epoch"] for event in tuned.resumed if "held_out_loss" in event]
    assert [event["epoch"] for event in tuned.broken_off if "held_out_loss" in event][:2] == [0, 1]
    assert epochs[0] in (2, 3)  # the second was told of before its state was kept
    assert len(tuned.report["losses"]) == epochs[-1]


def test_weights_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    variables = read_variables(BASE / "model.bin")
    name = "encoder/layer_norm/gamma"
    replace_variables(BASE / "model.bin", tmp_path / "other.bin", {name: variables[name] * 2})
    changed = read_variables(tmp_path / "other.bin")
    assert changed.keys() == variables.keys()
    assert (changed[name] == variables[name] * 2).all()
    assert all((changed[other] == tensor).all() for other, tensor in variables.items() if other != name)
    with pytest.raises(ValueError, match="no variable"):
        replace_variables(BASE / "model.bin", tmp_path / "other.bin", {name: variables[name][:3]})
