from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from speech.training.dataset.card import WHY
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.layout import (
    Count,
    asr_line,
    asr_path,
    audiofolder_line,
    dataset_card,
    funasr_line,
    kaldi_lines,
    manifest,
)
from speech.training.dataset.paths import slug
from speech.training.dataset.text import Cleaning
from tests.speech.training.dataset.samples import TEXT, candidate, clip


def test_paths() -> None:
    assert clip().path == "raw/field-work/20260304T050607Z-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a/001203.flac"
    assert asr_path(candidate()) == "asr/field-work/20260304T050607Z-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a.jsonl"
    elsewhere = datetime(2026, 3, 4, 13, 6, 7, tzinfo=timezone(timedelta(hours=8)))
    assert clip(at=elsewhere).path == clip().path


def test_recordings_that_begin_alike_do_not_share_a_folder() -> None:
    jobs = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
    assert len({clip(job=job).path for job in jobs}) == 2


LABELS = st.one_of(
    st.text(max_size=80),
    st.text("ab.-_/ ", max_size=4),
    st.sampled_from(["", ".", "..", "../..", "/etc", "a/b", "a_b", "a b", "录音", "CON", "a" * 70, "a" * 71]),
)


@given(LABELS)
def test_a_slug_is_safe(label: str) -> None:
    made = slug(label)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", made)
    assert ".." not in (made, made[:2])
    assert len(made) <= 80


@given(LABELS, LABELS)
def test_two_labels_have_two_slugs(one: str, other: str) -> None:
    assert (slug(one) == slug(other)) == (one == other)
    # nor does a label that looks like a slug take the place of the one it looks like
    assert slug(slug("a/b")) != slug("a/b")


def test_ordinary_labels_stay_readable() -> None:
    assert slug("Call_Centre-2.b") == "Call_Centre-2.b"
    assert slug("call centre").startswith("call_centre-")


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


def described(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": "e1",
        "tenant": "acme",
        "date": date(2026, 3, 5),
        "created_at": datetime(2026, 3, 5, 1, tzinfo=UTC),
        "window": (datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)),
        "filters": Filters(),
        "cleaning": Cleaning(simplify=True),
        "splits": {"train": Count(1800, 7200.0, 9), "val": Count(200, 900.0, 1)},
        "rejections": {Reason.NOISY: 4, Reason.NO_CONSENT: 12, Reason.CLIPPED: 0},
        "models": {"sensevoice-small": 1900, "whisper-small": 100},
        "languages": {"zh": 8000.0, "en": 100.0},
        "sources": {"field|work\n# x": 8100.0},
        "files": {
            "metadata.jsonl": {"sha256": "0" * 64, "bytes": 12},
            "asr/a.jsonl": {"sha256": "1" * 64, "bytes": 3},
        },
    }
    return manifest(**{**facts, **changes})


def test_manifest() -> None:
    document = json.loads(json.dumps(described()))
    assert document["splits"]["train"] == {"clips": 1800, "hours": 2.0, "persons": 9}
    assert list(document["rejections"].items()) == [("no_consent", 12), ("noisy", 4)]
    assert document["window"] == {"from": "2026-03-04T00:00:00+00:00", "until": "2026-03-05T00:00:00+00:00"}
    assert document["languages"] == {"en": 0.0278, "zh": 2.2222}
    assert list(document["files"]) == ["asr/a.jsonl", "metadata.jsonl"]
    assert Filters.from_json(document["filters"]) == Filters()


def test_card() -> None:
    card = dataset_card(described())
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "pretty_name": "Training set e1",
        "language": ["en", "zh"],
        "task_categories": ["automatic-speech-recognition"],
        "size_categories": ["1K<n<10K"],
        "license": "other",
        "license_name": "internal-use-only",
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["metadata.jsonl", "raw/**/*.flac"]}],
            }
        ],
    }
    assert "| train | 1800 | 2.0 | 9 |" in body
    assert "| `no_consent` | 12 |" in body
    assert "| `max_disagreement` | 0.15 |" in body
    assert "| `simplify` | yes |" in body
    # a label cannot break out of its cell
    assert "| field\\|work # x | 2.25 |" in body
    assert "max_source_length=3000" in body


@pytest.mark.parametrize(
    ("clips", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_size(clips: int, size: str) -> None:
    card = dataset_card(described(splits={"train": Count(clips, 1.0, 1)}, rejections={}))
    assert f'size_categories: ["{size}"]' in card
    assert "None." in card


def test_every_reason_has_a_meaning() -> None:
    assert set(WHY) == set(Reason)
