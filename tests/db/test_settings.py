"""Settings come from the environment."""

from __future__ import annotations

import json

import pytest

from db.settings import Settings


def test_every_setting_can_be_given_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    for name, value in json.loads(settings.model_dump_json()).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"LONGHAND_{name.upper()}", text)
    assert Settings() == settings
