"""Every operation of the API under generated requests: no server errors, and answers as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.uploads.resumable.tus import CONTENT_TYPE
from db.models import JobStatus
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.jobs import make_job

EXAMPLES = 30
"""Requests of each operation; all of them take well under two minutes."""


schemathesis.serializer.alias(CONTENT_TYPE, "application/octet-stream")

LIMITS = limits(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def no_failure(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """No error of the server; that nobody transcribes here is none."""
    if response.status_code == 504 and "transcript_not_ready" in response.text:
        return None
    return not_a_server_error(context, response, case)


CHECKS = [no_failure, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def schema(settings: Settings, sessions: Sessions) -> Iterator[schemathesis.BaseSchema]:
    # with a key, since one that a request makes would close an open server to those after it
    keys = {"root": ApiKey(tenant="default", max_priority="high")}
    settings = settings.model_copy(
        update={"training_tenants": ["*"], "stall_seconds": 5.0, "api_keys": keys, "transcribe_seconds": 0.02}
    )
    app = create_app(settings)
    done = make_job(sessions)
    with job_transaction(sessions, done) as tx:
        tx.job.status, tx.job.transcript_prefix = JobStatus.COMPLETED, f"jobs/{done}/x/"
    with serving(app, settings) as client:
        made = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        yield made


def test_every_operation(schema: schemathesis.BaseSchema) -> None:
    failures: dict[str, str] = {}
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok() if isinstance(result, Ok) else pytest.fail(str(result))
        tried += 1

        @LIMITS
        @given(case=operation.as_strategy())
        def check(case: Case[Any]) -> None:
            case.call_and_validate(headers={"Authorization": "Bearer root"}, checks=CHECKS, timeout=30)

        try:
            check()
        except Exception as error:  # noqa: BLE001  (all operations are to be reported)
            failures[operation.label] = str(error)
    assert tried >= 30
    assert failures == {}, "\n\n".join(f"{label}\n{text}" for label, text in failures.items())
