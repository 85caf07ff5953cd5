"""Settings come from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from db.settings import Settings

MISTAKES = {
    "LONGHAND_MAX_UPLOADS": "0",
    "LONGHAND_API_KEYS": "{no json",
    "LONGHAND_REDACT": '["phone", "shoes"]',
    "LONGHAND_REDACT_REGIONS": '["XX"]',
    "LONGHAND_DATABASE_URL": "mysql://me:a-secret@127.0.0.1/none",
    "LONGHAND_REDIS_URL": "127.0.0.1",
    "LONGHAND_S3_ENDPOINT": "127.0.0.1:9000",
    "LONGHAND_S3_ACCESS_KEY": "half",
    "LONGHAND_SECRET_KEY": "a-secret",
    "LONGHAND_LEASE_SECONDS": "1",
    "LONGHAND_STAGE_KEY": "/certificates/key.pem",
    # what it needs is not valid, which is told, and may be all that is wrong with it
    "LONGHAND_KEEP_ORIGINAL": "true",
}
MISTAKEN = {*MISTAKES, "LONGHAND_STAGE_CERTIFICATE"} - {"LONGHAND_STAGE_KEY"}


def test_every_setting_can_be_given_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    for name, value in json.loads(settings.model_dump_json()).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"LONGHAND_{name.upper()}", text)
    assert Settings() == settings


@pytest.mark.parametrize(
    "arguments", [("-m", "db.prepare"), ("-c", "from cli.main import app; app()", "up", "--data-dir", "elsewhere")]
)
def test_a_process_starts_with_valid_settings_or_tells_every_mistake(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | MISTAKES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = {line.strip().partition(":")[0].partition(" ")[0] for line in done.stderr.splitlines()[1:]}
    assert (done.returncode, told) == (1, MISTAKEN), done.stderr
    assert "a-secret" not in done.stderr


def test_what_worked_before_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that do not use S3 may lack its file; renewals in time are enough."""
    monkeypatch.setenv("LONGHAND_S3_CA_BUNDLE", "/nowhere.pem")
    monkeypatch.setenv("LONGHAND_LEASE_SECONDS", "20")
    monkeypatch.setenv("LONGHAND_LEASE_RENEW_SECONDS", "15")
    assert Settings().lease_seconds == 20
