from __future__ import annotations

import json
from typing import Any

import pytest

from speech.training.dataset.lines import asr_line, audiofolder_line, funasr_line, kaldi_lines
from tests.speech.training.dataset.samples import TEXT, clip


def test_asr_line() -> None:
    line = asr_line(clip(split="val", human=True, draft=None, text="你好\n"))
    assert "\n" not in line
    assert json.loads(line) == {
        "segment": 1203,
        "start": 61.25,
        "end": 63.75,
        "text": "你好\n",
        "draft": None,
        "refined": TEXT,
        "language": "en",
        "speaker": "0f3c9a52/SPEAKER_00",
        "human": True,
        "confidence": 0.9,
        "split": "val",
        "audio": "raw/field-work/20260304T050607Z-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a/001203.flac",
    }


def test_funasr_line() -> None:
    line = funasr_line(clip(emotion="neutral", event="speech", itn=True))
    assert json.loads(line) == {
        "key": "0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a-001203",
        "text_language": "<|en|>",
        "emo_target": "<|NEUTRAL|>",
        "event_target": "<|Speech|>",
        "with_or_wo_itn": "<|withitn|>",
        "target": TEXT,
        "source": clip().path,
        "target_len": 8,
        "source_len": 250,
    }


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, ("<|EMO_UNKNOWN|>", "<|Speech|>", "<|withitn|>")),
        ({"emotion": "happy", "event": "bgm", "itn": False}, ("<|HAPPY|>", "<|BGM|>", "<|woitn|>")),
        ({"emotion": "emo_unknown", "event": "laughter"}, ("<|EMO_UNKNOWN|>", "<|Laughter|>", "<|withitn|>")),
        ({"emotion": "x|>", "event": "whistling"}, ("<|EMO_UNKNOWN|>", "<|Event_UNK|>", "<|withitn|>")),
    ],
)
def test_tags(changes: dict[str, Any], tags: tuple[str, ...]) -> None:
    line = json.loads(funasr_line(clip(**changes)))
    assert (line["emo_target"], line["event_target"], line["with_or_wo_itn"]) == tags


@pytest.mark.parametrize(("text", "length"), [("你好，GPT-4。", 3), ("안녕 하세요", 2), ("きょう", 3)])
def test_target_length(text: str, length: int) -> None:
    assert json.loads(funasr_line(clip(text=text)))["target_len"] == length


def test_kaldi_lines() -> None:
    utterance = "P0000003-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a-001203"
    assert kaldi_lines(clip()) == (f"{utterance} {clip().path}", f"{utterance} {TEXT}", f"{utterance} P0000003")


def test_kaldi_sorts_speakers_as_it_sorts_utterances() -> None:
    lines = sorted(kaldi_lines(clip(person=person))[2] for person in (2, 999, 1000, 9999, 10000, 10001, 99999))
    speakers = [line.split()[1] for line in lines]
    assert speakers == sorted(speakers)


def test_audiofolder_line() -> None:
    assert json.loads(audiofolder_line(clip(split="val"))) == {
        "file_name": clip().path,
        "transcription": TEXT,
        "split": "val",
        "language": "en",
        "speaker": "P0000003",
        "duration": 2.5,
    }
