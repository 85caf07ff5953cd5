from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
import yaml

from speech.training.dataset.card import REASON_TEXTS, dataset_card
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.manifest import SplitCount, WithdrawnClips, build_manifest
from speech.training.dataset.text import Cleaning


def example_manifest(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": "e1",
        "tenant": "acme",
        "date": date(2026, 3, 5),
        "created_at": datetime(2026, 3, 5, 1, tzinfo=UTC),
        "window": (datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)),
        "filters": Filters(),
        "cleaning": Cleaning(simplify=True),
        "splits": {"train": SplitCount(1800, 7200.0, 9), "val": SplitCount(200, 900.0, 1)},
        "rejections": {Reason.NOISY: 4, Reason.NO_CONSENT: 12, Reason.CLIPPED: 0},
        "models": {"sensevoice-small": 1900, "whisper-small": 100},
        "languages": {"zh": 8000.0, "en": 100.0},
        "sources": {"field|work\n# x": 8100.0},
        "withdrawn": [WithdrawnClips("e0", datetime(2026, 3, 5, tzinfo=UTC), 7.2, ("raw/a/000001.flac",))],
        "files": {
            "metadata.jsonl": {"sha256": "0" * 64, "bytes": 12},
            "asr/a.jsonl": {"sha256": "1" * 64, "bytes": 3},
        },
    }
    return build_manifest(**{**fields, **changes})


def test_manifest() -> None:
    document = json.loads(json.dumps(example_manifest()))
    assert document["splits"]["train"] == {"clips": 1800, "hours": 2.0, "persons": 9}
    assert list(document["rejections"].items()) == [("no_consent", 12), ("noisy", 4)]
    assert document["window"] == {"from": "2026-03-04T00:00:00+00:00", "until": "2026-03-05T00:00:00+00:00"}
    assert document["languages"] == {"en": 0.0278, "zh": 2.2222}
    assert list(document["files"]) == ["asr/a.jsonl", "metadata.jsonl"]
    assert document["withdrawn"] == [
        {"export": "e0", "at": "2026-03-05T00:00:00+00:00", "hours": 0.002, "clips": ["raw/a/000001.flac"]}
    ]
    assert Filters.from_json(document["filters"]) == Filters()


def test_card() -> None:
    card = dataset_card(example_manifest())
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
    assert "| e0 | 2026-03-05T00:00:00+00:00 | 1 |" in body
    assert "max_source_length=3000" in body


def test_nothing_is_said_of_withdrawals_where_there_are_none() -> None:
    assert "Withdrawn" not in dataset_card(example_manifest(withdrawn=[]))


@pytest.mark.parametrize(
    ("clips", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_size(clips: int, size: str) -> None:
    card = dataset_card(example_manifest(splits={"train": SplitCount(clips, 1.0, 1)}, rejections={}))
    assert f'size_categories: ["{size}"]' in card
    assert "None." in card


def test_every_reason_has_a_meaning() -> None:
    assert set(REASON_TEXTS) == set(Reason)
