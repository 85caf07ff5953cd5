"""Rows of usage are only ever added, whoever tries."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.sql import Executable

from db.models import UsageRecord
from db.session import Sessions


@pytest.mark.parametrize(
    "statement",
    [
        update(UsageRecord).values(audio_seconds=0),
        update(UsageRecord).where(UsageRecord.tenant == "nobody").values(bytes=1),
        delete(UsageRecord),
        text("TRUNCATE usage"),
        text("INSERT INTO usage (id, tenant, job_id, stage, audio_seconds) OVERRIDING SYSTEM VALUE "
             "SELECT id, tenant, job_id, stage, 0 FROM usage "
             "ON CONFLICT (id) DO UPDATE SET audio_seconds = 0"),
    ],
)  # fmt: skip
def test_nothing_changes_a_row(sessions: Sessions, statement: Executable) -> None:
    with sessions.begin() as session:
        session.add(UsageRecord(tenant="acme", job_id=uuid.uuid4(), stage="draft", audio_seconds=5))
    with pytest.raises(ProgrammingError, match="rows of usage are only ever added"), sessions.begin() as session:
        session.execute(statement)
    with sessions() as session:
        assert session.execute(select(func.count(), func.sum(UsageRecord.audio_seconds))).one() == (1, 5)
