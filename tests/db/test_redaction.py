"""The settings of redaction, and what holds for a job."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from db.access import redaction, tenants
from db.access.redaction import Redaction
from db.session import Sessions
from db.settings import Settings
from speech.text.redaction.kinds import PersonalData

KEY = Fernet.generate_key().decode()


@pytest.mark.parametrize("key", [None, "", " , "])
def test_originals_need_a_secret_key(key: str | None) -> None:
    with pytest.raises(ValidationError, match="keep_original\n  needs LONGHAND_SECRET_KEY") as refused:
        Settings(keep_original=True, secret_key=key, s3_secret_key="hunter2")
    assert "hunter2" not in str(refused.value)
    assert Settings(keep_original=True, secret_key=KEY).keep_original


@pytest.mark.parametrize("wrong", [{"redact": ["names"]}, {"redact_regions": ["UK"]}, {"redact_regions": ["cn"]}])
def test_mistakes_in_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_the_settings_know_the_kinds_that_can_be_found() -> None:
    assert set(Settings.model_validate({"redact": list(PersonalData)}).redact) == {
        kind.value for kind in PersonalData
    }


def test_what_holds_for_a_job(sessions: Sessions, settings: Settings) -> None:
    settings = settings.model_copy(update={"redact": ["phone"], "keep_original": True})

    def of_job(**options: Any) -> Redaction:
        with sessions() as session:
            return redaction.of_job(session, "acme", options, settings)

    assert of_job() == Redaction(frozenset({"phone"}), True)
    for row, expected in (
        ({"redact": ["id"]}, Redaction(frozenset({"id"}), True)),
        ({"redact": [], "keep_original": False}, Redaction(frozenset(), False)),
        ({"redact": None, "keep_original": None}, Redaction(frozenset({"phone"}), True)),
    ):
        with sessions.begin() as session:
            tenants.change(session, "acme", row)
        assert of_job() == expected
    assert of_job(redact=["card"]) == Redaction(frozenset({"phone", "card"}), True)
