from __future__ import annotations

import json

from speech.training.dataset.candidates import Candidate
from tests.speech.training.dataset.samples import candidate


def test_json_keeps_everything() -> None:
    original = candidate(itn=False, emotion="happy", event="bgm", draft=None, text="你好")
    assert Candidate.from_json(json.loads(json.dumps(original.to_json()))) == original


def test_key_and_length() -> None:
    original = candidate(job="j", segment=7, start=1.0, end=3.5)
    assert (original.key, original.seconds) == ("j-000007", 2.5)
