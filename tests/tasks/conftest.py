from __future__ import annotations

from collections.abc import Callable

import pytest

from db.settings import Settings
from tests.tasks.fakes import FakeRuntime, Transcribe


@pytest.fixture
def make_runtime(settings: Settings) -> Callable[..., FakeRuntime]:
    def make(
        draft: Transcribe = lambda _: "we met on monday",
        refine: Transcribe = lambda _: "we met on Monday",
        **changes: object,
    ) -> FakeRuntime:
        quick = {"retry_seconds": 0.001, "max_attempts": 3, "models_dir": settings.models_dir} | changes
        return FakeRuntime(settings.model_copy(update=quick), draft, refine)

    return make
