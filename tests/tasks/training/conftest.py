from __future__ import annotations

import uuid

import pytest

from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime
from tests.tasks.training.exports import RECORDINGS, transcribe_recording, unique_words
from tests.waiting import avoid_midnight


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> FakeRuntime:
    """Both models agree, and the tenant has opted in."""
    avoid_midnight()
    return make_runtime(unique_words, unique_words, training_tenants=["default"])


@pytest.fixture
def job_ids(runtime: FakeRuntime) -> list[uuid.UUID]:
    return [transcribe_recording(runtime, name) for name in RECORDINGS]
