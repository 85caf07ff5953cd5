"""A candidate and a clip that every filter accepts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from speech.training.dataset.candidates import Candidate
from speech.training.dataset.clips import Clip

TEXT = "we met in the old harbour and talked"
FIELDS: dict[str, Any] = {
    "job": "0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a",
    "segment": 1203,
    "source": "field-work",
    "at": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    "start": 61.25,
    "end": 63.75,
    "text": TEXT,
    "language": "en",
    "speaker": "0f3c9a52/SPEAKER_00",
    "human": False,
    "confidence": 0.9,
    "draft": TEXT,
    "refined": TEXT,
    "consent": True,
    "retained": True,
}


def candidate(**changes: Any) -> Candidate:
    return Candidate(**{**FIELDS, **changes})


def clip(**changes: Any) -> Clip:
    fields = {"text": TEXT, "person": 3, "split": "train", "sha256": "0" * 64}
    return Clip(
        candidate(
            **{name: value for name, value in changes.items() if name in Candidate.__slots__ and name != "text"}
        ),
        **{**fields, **{name: value for name, value in changes.items() if name in fields}},
    )
