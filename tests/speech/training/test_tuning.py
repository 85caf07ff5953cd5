"""Fine-tuning with FunASR's trainer: a small network learns three phrases, in the environment with PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from speech.asr.sensevoice.onnx_engine import SenseVoiceEngine
from speech.engines import Samples, Utterance
from speech.models.catalogue import sha256
from speech.text.script import normalise
from speech.training.tuning.data import Clip, ReadableClip, fits_ctc, read_list
from speech.training.tuning.evaluate import (
    MIN_COMPARED,
    EditCounts,
    Score,
    chance,
    divide,
    score,
    transcribe_sensevoice,
)
from speech.training.tuning.request import Request, TuningError, TuningErrorCode
from tasks.training.finetune.gate import MAX_CHANCE
from tests.media import DATA, load
from tests.speech.conversion.test_parity import PYTHON, ROOT

PHRASES = ("librivox_0880.flac", "librivox_0890.flac", "librivox_0930.flac")
REPETITIONS = 10
"""Of each phrase in an epoch."""
MAX_ERROR_RATE = 0.2

TuningOutput = tuple[dict[str, Any], list[dict[str, Any]]]
"""The report, and the progress events."""


def texts() -> dict[str, str]:
    lines = [json.loads(line) for line in (DATA / "manifest.jsonl").read_text().splitlines()]
    return {line["path"]: line["text"] for line in lines if line["path"] in PHRASES}


def line(key: str, source: str, text: str) -> dict[str, Any]:
    return {
        **{"key": key, "source": source, "source_len": 300, "target": text, "target_len": len(text)},
        **{"text_language": "<|en|>", "emo_target": "<|NEUTRAL|>", "event_target": "<|Speech|>"},
        "with_or_wo_itn": "<|withitn|>",
    }


def load_recording(path: Path) -> Samples:
    return load(path.name)


def write(path: Path, lines: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.name


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PYTHON, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@dataclass(frozen=True)
class TuningFolder:
    """A folder with clips, their lists, and a small untrained network as a base."""

    folder: Path

    def tune(self, out: str, **changes: object) -> TuningOutput:
        request: dict[str, object] = {
            **{"train": "train.jsonl", "val": "val.jsonl", "base": "base", "out": out, "epochs": 5},
            **{"learning_rate": 2e-3, "batch_seconds": 7, "threads": 1, "seed": 7},
            **changes,
        }
        path = self.folder / f"{out}.json"
        path.write_text(json.dumps(request))
        done = python("-m", "speech.training.tuning", str(path))
        report = json.loads((self.folder / out / "report.json").read_text())
        return report, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def tuning_folder(tmp_path_factory: pytest.TempPathFactory) -> TuningFolder:
    if not PYTHON.is_file():
        pytest.skip("no environment with PyTorch here: `make parity` sets one up")
    folder = tmp_path_factory.mktemp("tuning")
    (folder / "clips").mkdir()
    for name in PHRASES:
        shutil.copyfile(DATA / name, folder / "clips" / name)
    (folder / "clips" / "broken.flac").write_bytes(b"fLaC, but no more than its name")
    lines = [line(name, f"clips/{name}", text) for name, text in texts().items()]
    broken = line("broken", "clips/broken.flac", "what nobody hears")
    write(folder / "train.jsonl", [*(lines * REPETITIONS), broken])
    write(folder / "val.jsonl", lines)
    write(folder / "nothing.jsonl", [broken])
    python("-m", "speech.training.tuning.sensevoice.seed", str(folder / "train.jsonl"), str(folder / "base"))
    return TuningFolder(folder)


@pytest.fixture(scope="module")
def runs(tuning_folder: TuningFolder) -> dict[str, Future[TuningOutput]]:
    """Tunings in parallel: most of their time is starting PyTorch."""
    earlier = tuning_folder.folder / "diverged"
    for name in ("export", "original"):
        (earlier / name).mkdir(parents=True)
        (earlier / name / "model.onnx").write_bytes(b"of an earlier run")
    (earlier / "report.json").write_text('{"status": "done"}')
    requests: dict[str, dict[str, object]] = {
        "tuned": {},
        "diverged": {"learning_rate": 1e6, "epochs": 2},
        "without-train": {"train": "nothing.jsonl"},
        "without-val": {"val": "nothing.jsonl"},
    }
    with ThreadPoolExecutor(2) as pool:
        return {out: pool.submit(tuning_folder.tune, out, **changes) for out, changes in requests.items()}


@pytest.fixture(scope="module")
def tuned(runs: dict[str, Future[TuningOutput]]) -> TuningOutput:
    return runs["tuned"].result()


def test_phrases_are_learnt(tuned: TuningOutput) -> None:
    report, progress = tuned
    assert (report["status"], report["error"]) == ("done", None)
    assert report["parity"]["passed"]
    assert len(report["losses"]) == 5
    assert report["losses"][-1] < 0.05 * report["losses"][0]
    assert [event["loss"] for event in progress if "held_out_loss" in event] == report["losses"]
    assert report["cer"]["base"] > 0.5
    assert report["cer"]["tuned"] < MAX_ERROR_RATE
    assert report["cer"]["export"] < MAX_ERROR_RATE
    assert report["wer"]["export"] < MAX_ERROR_RATE


def test_a_clip_that_cannot_be_read_is_counted_and_left_out(tuned: TuningOutput) -> None:
    assert tuned[0]["clips"] == {"train": 3 * REPETITIONS, "val": 3, "unreadable": 1, "unfit": 0}


def test_the_export_drafts_the_phrases_without_torch(tuned: TuningOutput, tuning_folder: TuningFolder) -> None:
    report, export = tuned[0], tuning_folder.folder / "tuned" / "export"
    assert {name: file["sha256"] for name, file in report["files"].items()} == {
        path.name: sha256(path) for path in export.iterdir()
    }
    engine = SenseVoiceEngine(export)
    for name, text in texts().items():
        (hypothesis,) = engine.transcribe([Utterance(load(name), language="en")])
        errors = EditCounts()
        errors.add(normalise(text), normalise(" ".join(phrase.text for phrase in hypothesis.phrases)))
        assert errors.rate is not None
        assert errors.rate < MAX_ERROR_RATE
        assert (hypothesis.language, hypothesis.emotion, hypothesis.event, hypothesis.itn) == (
            "en",
            "neutral",
            "speech",
            True,
        )
    held_out = read_list(tuning_folder.folder / "val.jsonl")
    rates = score(transcribe_sensevoice(engine, held_out, read=load_recording))
    assert (rates.cer, rates.wer) == (report["cer"]["export"], report["wer"]["export"])


def test_a_tuned_model_is_a_base_and_frozen_blocks_stay(tuned: TuningOutput, tuning_folder: TuningFolder) -> None:
    report, _ = tuning_folder.tune("again", base="tuned/original", epochs=1, frozen=2, learning_rate=1e-4)
    assert report["status"] == "done"
    assert report["cer"]["base"] == tuned[0]["cer"]["tuned"]
    compared = (
        "import sys, torch; one, other = (torch.load(f'{f}/model.pt') for f in sys.argv[1:]);"
        "print(*(name for name in one if not torch.equal(one[name], other[name])))"
    )
    folders = (str(tuning_folder.folder / name / "original") for name in ("tuned", "again"))
    changed = python("-c", compared, *folders).stdout.split()
    assert any(name.startswith("encoder.encoders.1.") for name in changed)
    assert not [name for name in changed if name.startswith(("encoder.encoders0.", "encoder.encoders.0."))]


def test_a_run_that_diverges_deletes_its_output_and_that_of_an_earlier_run(
    tuning_folder: TuningFolder, runs: dict[str, Future[TuningOutput]]
) -> None:
    report, progress = runs["diverged"].result()
    assert (report["status"], report["error"]["code"]) == ("failed", TuningErrorCode.DIVERGED)
    assert (report["files"], report["original"]) == ({}, None)
    assert [path.name for path in (tuning_folder.folder / "diverged").iterdir()] == ["report.json"]
    assert progress[-1] == {"status": "failed"}


@pytest.mark.parametrize(
    ("missing", "code"), [("train", TuningErrorCode.NO_TRAINING_DATA), ("val", TuningErrorCode.NO_HELD_OUT_DATA)]
)
def test_without_clips_nothing_is_trained(
    runs: dict[str, Future[TuningOutput]], missing: str, code: TuningErrorCode
) -> None:
    report, _ = runs[f"without-{missing}"].result()
    assert report["error"]["code"] == code
    assert report["clips"]["unreadable"] >= 1
    assert report["losses"] == []


class LetterTokenizer:
    """A tokenizer of single letters and tags; everything else is unknown."""

    class sp:
        @staticmethod
        def unk_id() -> int:
            return 0

    def encode(self, text: str) -> list[int]:
        return [1] if text.startswith("<|") else [ord(c) if c.isalpha() else 0 for c in text]


@pytest.mark.parametrize(
    ("text", "frames", "fit"),
    [
        ("abc", 18, True),
        ("abc", 12, False),  # three tokens, two outputs
        ("aab", 18, False),  # the blank between the two takes one more
        ("aab", 24, True),
        ("a1c", 60, False),
        ("", 60, False),
        ("ab" * 101, 6000, False),
    ],
)
def test_ctc_must_be_able_to_write_the_text(text: str, frames: int, fit: bool) -> None:
    clip = Clip("one", Path("one.flac"), text, "<|en|>", "<|NEUTRAL|>", "<|Speech|>", "<|withitn|>")
    assert fits_ctc(ReadableClip(clip, frames), LetterTokenizer(), 6) is fit


def test_an_error_rate_is_not_the_mean_over_clips() -> None:
    errors = EditCounts()
    errors.add("a" * 9, "a" * 9)
    errors.add("b", "c")
    assert errors.rate == 0.1
    assert EditCounts().rate is None


def test_the_score_counts_words_only_where_there_are_spaces(tmp_path: Path) -> None:
    engine = SenseVoiceEngine(DATA / "sensevoice-random")
    write(tmp_path / "val.jsonl", [line("zh", str(DATA / "zh_asr_example.flac"), "你好")])
    (clip,) = read_list(tmp_path / "val.jsonl")
    rates = score(transcribe_sensevoice(engine, [replace(clip, language="<|zh|>")], read=load_recording))
    assert rates.cer is not None
    assert rates.wer is None
    assert rates.rate == rates.cer


@pytest.mark.parametrize(
    ("language", "wanted", "heard", "parts"),
    [
        ("en", ["One two.", "Three four"], "One two three four", ["one two", "three four"]),
        ("en", ["One two", "three four"], "One, tree three four five", ["one tree", "three four five"]),
        ("en", ["one two", "three four"], "so one two and three four", ["so one two and", "three four"]),
        ("en", ["one", "two", "three"], "", ["", "", ""]),
        ("en", ["...", "two"], "one two", ["", "one two"]),
        ("en", ["..."], "one two", ["one two"]),
        ("zh", ["你好", "再见"], "你好，再贱。", ["你好", "再贱"]),
        ("th", ["สวัสดี", "ขอบคุณ"], "สวัสดีขอบคุณ", ["สวัสดี", "ขอบคุณ"]),
    ],
)
def test_what_is_heard_of_a_window_is_divided_among_its_clips(
    language: str, wanted: Sequence[str], heard: str, parts: Sequence[str]
) -> None:
    clips = [Clip(str(number), Path(), text, f"<|{language}|>", "", "", "") for number, text in enumerate(wanted)]
    divided = list(divide(heard, clips))
    assert divided == list(zip(clips, parts, strict=True))
    whole = Clip("whole", Path(), " ".join(wanted), f"<|{language}|>", "", "", "")
    assert sum(score([divided]).edits.values()) == score([[(whole, heard)]]).edits["whole"]


def scored(edits: Sequence[int], together: int = 1) -> Score:
    """Clips with so many wrong words, so many of them decoded together."""
    clips = [
        (Clip(f"{number:03}", Path(), "a " * 9, "<|en|>", "", "", ""), "b " * wrong + "a " * (9 - wrong))
        for number, wrong in enumerate(edits)
    ]
    return score(clips[start : start + together] for start in range(0, len(clips), together))


def test_a_gain_that_one_clip_makes_is_chance() -> None:
    before = [5] * MIN_COMPARED
    assert chance(scored(before), scored([4] * MIN_COMPARED)) == 0
    assert chance(scored(before), scored(before)) == 1
    assert 0.2 < chance(scored(before), scored([1, *before[1:]])) < 0.5
    # a few clips tell nothing
    assert chance(scored(before[1:]), scored([4] * (MIN_COMPARED - 1))) == 1


def test_a_gain_in_one_window_is_chance() -> None:
    before, after = [5] * 32, [0] * 4 + [5] * 28
    assert chance(scored(before), scored(after)) < MAX_CHANCE
    assert chance(scored(before, together=4), scored(after, together=4)) > MAX_CHANCE
    assert chance(scored(before, together=4), scored([4] * 32, together=4)) == 0
    # a few windows tell nothing, however many clips are in them
    assert chance(scored(before, together=8), scored([4] * 32, together=8)) == 1


def test_a_base_inside_the_output_folder_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "out" / "original"
    base.mkdir(parents=True)
    for path in (base / "model.pt", base / "config.yaml", tmp_path / "list.jsonl"):
        path.touch()
    request = Request(tmp_path / "list.jsonl", tmp_path / "list.jsonl", base, tmp_path / "out")
    with pytest.raises(TuningError, match="lies where the results go") as refused:
        request.check()
    assert refused.value.code is TuningErrorCode.INVALID_REQUEST
