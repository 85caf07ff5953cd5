"""Every operation of /openapi.json with every kind of credential: only what is the caller's is shown or changed.

The operations come from the schema. One that needs a body or an id that is unknown here fails the walk until it
has one: nothing is passed over.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.app import create_app
from db.models import Base
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.filled import EXPORT_FILE, SEGMENT, Filled, fill

OWNER, STRANGER = "tenant-of-the-owner", "tenant-of-the-stranger"
"""The owner's name is in all of its rows, so an answer that holds it shows one."""

OPEN = {"GET /healthz", "GET /readyz"}
"""Operations that everybody may use. They show nothing of a tenant."""

FILE = {"file": ("talk.wav", b"RIFF", "audio/wav")}
BODIES: Mapping[str, dict[str, Any]] = {
    "POST /v1/jobs": {"files": FILE},
    "POST /v1/voices": {"data": {"name": "Ada"}, "files": FILE},
    "PATCH /v1/voices/{voice_id}": {"json": {"training": False}},
    "PATCH /v1/jobs/{job_id}/segments/{index}": {"json": {"text": "changed"}},
    "POST /v1/exports": {"json": {}},
    "POST /v1/finetunes": {"json": {}},
}
"""What operations with a body are sent."""


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    takes_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def is_open(self) -> bool:
        return self.name in OPEN

    @property
    def names_a_row(self) -> bool:
        return any(name.endswith("_id") for name in self.parameters)


@dataclass(frozen=True)
class Credential:
    """One column of the table: headers, and what each kind of operation answers."""

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    expected: int | None = None
    """The status of everything that is protected; None for a valid credential of another tenant."""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


CREDENTIALS = (
    Credential("another tenant's key", bearer("stranger-key")),
    Credential("no key", {}, 401),
    Credential("forged key", bearer("owner-kez"), 401),
    Credential("half a key", bearer("owner"), 401),
    Credential("another scheme", {"Authorization": "Basic owner-key"}, 401),
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = {"owner-key": OWNER, "stranger-key": STRANGER}
    return settings.model_copy(update={"api_keys": keys, "training_tenants": ["*"]})


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings), settings) as opened:
        yield opened


def operations(client: httpx.Client) -> list[Operation]:
    paths = client.get("/openapi.json").json()["paths"]
    return [
        Operation(method.upper(), path, "requestBody" in described)
        for path, methods in paths.items()
        for method, described in methods.items()
    ]


def ids_of(owned: Filled) -> dict[str, str]:
    """A value for each parameter of a path."""
    return {
        "job_id": str(owned.done),
        "index": str(SEGMENT),
        "voice_id": str(owned.voice),
        "export_id": str(owned.export),
        "path": EXPORT_FILE,
        "finetune_id": str(owned.finetune),
        "version_id": str(owned.version),
        "key_id": str(owned.key),
    }


def call(
    client: httpx.Client, operation: Operation, headers: Mapping[str, str], values: Mapping[str, str]
) -> httpx.Response:
    body = BODIES[operation.name] if operation.takes_body else {}
    return client.request(operation.method, operation.path.format(**values), headers=headers, **body)


def shown(response: httpx.Response) -> str:
    """All that an answer tells, but for the path that was asked for."""
    return response.text + str([value for name, value in response.headers.items() if name != "location"])


def contents(sessions: Sessions) -> dict[str, list[str]]:
    """All that the owner has."""
    with sessions() as session:
        return {
            table: [
                row
                for row in session.scalars(text(f'SELECT CAST(t AS text) FROM "{table}" t ORDER BY 1'))  # noqa: S608
                if OWNER in row
            ]
            for table in Base.metadata.tables
        }


def test_the_walk_covers_every_operation(client: httpx.Client) -> None:
    known = set(ids_of(Filled(*[uuid.uuid4()] * len(Filled.__dataclass_fields__))))
    walked = operations(client)
    assert len(walked) >= 30
    for operation in walked:
        assert set(operation.parameters) <= known, f"no id for {operation.name}"
        assert not operation.takes_body or operation.name in BODIES, f"no body for {operation.name}"
    assert {operation.name for operation in walked} >= OPEN | set(BODIES)


def test_nothing_is_shown_or_changed_without_the_right_to(client: httpx.Client, sessions: Sessions) -> None:
    owned = fill(sessions, OWNER)
    fill(sessions, STRANGER)
    before = contents(sessions)
    values = ids_of(owned)
    table: dict[str, list[int]] = {}
    wrong = []
    for operation in operations(client):
        row = table.setdefault(operation.name, [])
        for credential in CREDENTIALS:
            answer = call(client, operation, credential.headers, values)
            row.append(answer.status_code)
            if OWNER in shown(answer) or OWNER in answer.headers.get("location", ""):
                wrong.append(f"{operation.name} with {credential.name} shows a row: {answer.text[:200]}")
            if not _is_expected(operation, credential, answer.status_code):
                wrong.append(f"{operation.name} with {credential.name}: {answer.status_code} {answer.text[:200]}")
    print(_drawn(table, [credential.name for credential in CREDENTIALS]))  # noqa: T201
    assert wrong == []
    assert contents(sessions) == before


def _is_expected(operation: Operation, credential: Credential, status: int) -> bool:
    if operation.is_open:
        return status == 200
    if credential.expected is not None:
        return status == credential.expected
    return status == 404 if operation.names_a_row else status < 500 and status not in (401, 403, 404)


def _drawn(table: Mapping[str, list[int]], columns: list[str]) -> str:
    width = max(map(len, table))
    lines = ["", "".ljust(width) + "".join(f"  {name}" for name in columns)]
    for name, statuses in table.items():
        cells = (str(status).rjust(len(column) + 2) for status, column in zip(statuses, columns, strict=True))
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


def test_no_id_of_another_tenant_opens_anything(client: httpx.Client, sessions: Sessions) -> None:
    """Each id in each place: an export's is that of a job too, and an enrolment's is one that nobody sees."""
    owned = fill(sessions, OWNER)
    values = ids_of(owned)
    before = contents(sessions)
    for operation in operations(client):
        places = [name for name in operation.parameters if name.endswith("_id")]
        for place in places:
            for kind, row_id in owned.all.items():
                answer = call(client, operation, bearer("stranger-key"), values | {place: str(row_id)})
                assert answer.status_code == 404, (operation.name, kind, answer.text)
                assert OWNER not in shown(answer), (operation.name, kind)
    assert contents(sessions) == before


def test_the_owner_gets_what_others_do_not(client: httpx.Client, sessions: Sessions) -> None:
    """Which shows that the walk asks for what is there, and that it would see a row that is shown."""
    told = []
    for operation in operations(client):
        answer = call(client, operation, bearer("owner-key"), ids_of(fill(sessions, OWNER)))
        assert answer.status_code < 400 or answer.status_code == 409, (operation.name, answer.text)
        if OWNER in shown(answer):
            told.append(operation.name)
    expected = {
        *("GET /v1/jobs", "GET /v1/jobs/{job_id}", "GET /v1/jobs/{job_id}/events"),
        *("GET /v1/jobs/{job_id}/transcript", "PATCH /v1/jobs/{job_id}/segments/{index}"),
        *("GET /v1/voices", "GET /v1/voices/{voice_id}", "GET /v1/exports", "GET /v1/exports/{export_id}"),
        *("GET /v1/model-versions", "GET /v1/model-versions/{version_id}"),
    }
    assert expected <= set(told), expected - set(told)
