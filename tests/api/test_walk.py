"""Every operation of /openapi.json with every kind of credential: only what is the caller's is shown or changed.

The operations come from the schema. One that needs a body or an id that is unknown here fails the walk until it
has one: nothing is passed over.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.access import failures
from api.access.caller import ALL_SCOPES
from api.app import create_app
from db.access import keys as stored_keys
from db.models import Base, Priority, Scope
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
    "POST /v1/keys": {"json": {"name": "mine", "scopes": ["jobs:read"], "tenant": OWNER}},
    "POST /v1/keys/{key_id}/rotate": {"json": {}},
    "PUT /v1/tenants/{name}": {"json": {"jobs_at_once": 1}},
    "PATCH /v1/tenants/{name}": {"json": {"jobs_at_once": 1}},
}
"""What operations with a body are sent."""

QUERIES: Mapping[str, dict[str, str]] = {"GET /v1/usage": {"tenant": OWNER}, "GET /v1/keys": {"tenant": OWNER}}
"""Of operations that can be asked for another tenant."""

RUNS_THE_SERVER = {"PUT /v1/tenants/{name}", "PATCH /v1/tenants/{name}"}
"""Operations for nobody who is just a tenant."""
NAME_A_TENANT = {"POST /v1/keys", "GET /v1/tenants/{name}", *QUERIES} | RUNS_THE_SERVER
"""Operations that are asked for the owner by its name. Nobody but itself and who runs the server is answered."""


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    scope: Scope | None
    """None where no credential is asked for."""
    takes_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def names_a_row(self) -> bool:
        return any(name.endswith("_id") for name in self.parameters)


@dataclass(frozen=True)
class Credential:
    """One column of the table: what is sent with an operation, and what all that are protected answer."""

    name: str
    headers: Callable[[Operation], Mapping[str, str]]
    expected: int | None
    """None for a valid credential of another tenant."""


@dataclass(frozen=True)
class Keys:
    owner: str
    columns: Sequence[Credential]

    @property
    def stranger(self) -> Credential:
        return self.columns[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def keys(sessions: Sessions) -> Keys:
    """Keys of the owner but for the stranger's, who may do everything that a tenant may."""

    def make(tenant: str, scopes: Set[Scope] = ALL_SCOPES, **values: Any) -> tuple[uuid.UUID, str]:
        given = {"name": f"of {tenant}", "max_priority": Priority.HIGH, "expires_at": None} | values
        with sessions.begin() as session:
            row, key = stored_keys.create(session, tenant=tenant, scopes=scopes, **given)
        return row.id, key

    _, owner = make(OWNER)
    _, stranger = make(STRANGER)
    _, expired = make(OWNER, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked_id, revoked = make(OWNER)
    with sessions.begin() as session:
        stored_keys.end(session, revoked_id)
    _, scopeless = make(OWNER, set())
    lacking = {scope: make(OWNER, ALL_SCOPES - {scope, Scope.ADMIN})[1] for scope in Scope}

    def always(headers: Mapping[str, str]) -> Callable[[Operation], Mapping[str, str]]:
        return lambda _: headers

    return Keys(
        owner,
        (
            Credential("another tenant's", always(bearer(stranger)), None),
            Credential("none", always({}), 401),
            Credential("forged", always(bearer(owner[:-1] + ("a" if owner[-1] != "a" else "b"))), 401),
            Credential("prefix alone", always(bearer(owner[:12])), 401),
            Credential("other scheme", always({"Authorization": f"Basic {owner}"}), 401),
            Credential("expired", always(bearer(expired)), 401),
            Credential("revoked", always(bearer(revoked)), 401),
            Credential("scopeless", always(bearer(scopeless)), 403),
            Credential("other scopes", lambda operation: bearer(lacking[operation.scope or Scope.LIVE]), 403),
        ),
    )


@pytest.fixture
def client(settings: Settings, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    # the keys are there when the server begins to look, and it takes this many guesses
    monkeypatch.setattr(failures, "MAX_FAILURES", 10_000)
    settings = settings.model_copy(update={"training_tenants": ["*"]})
    with serving(create_app(settings), settings) as opened:
        yield opened


def operations(client: httpx.Client) -> list[Operation]:
    return [
        Operation(method.upper(), path, _scope(described), "requestBody" in described)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method, described in methods.items()
    ]


def _scope(described: Mapping[str, Any]) -> Scope | None:
    scopes = [scope for way in described.get("security", ()) for names in way.values() for scope in names]
    return Scope(scopes[0]) if scopes else None


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
        "name": OWNER,
    }


def call(
    client: httpx.Client, operation: Operation, headers: Mapping[str, str], values: Mapping[str, str]
) -> httpx.Response:
    body = BODIES[operation.name] if operation.takes_body else {}
    query = QUERIES.get(operation.name, {})
    url = operation.path.format(**values)
    while True:
        try:
            return client.request(operation.method, url, params=query, headers=headers, **body)
        except (httpx.ReadError, httpx.WriteError):
            # refused before its body was read: the line was closed before the answer could be
            continue


def shown(response: httpx.Response) -> str:
    """All that an answer tells."""
    return response.text + str(response.headers)


def contents(sessions: Sessions) -> dict[str, list[str]]:
    """All that the owner has, but for notes of what was tried and used."""
    with sessions() as session:
        return {
            table: [
                row
                for row in session.scalars(
                    text(f"SELECT CAST(to_jsonb(t) - 'last_used_at' AS text) FROM \"{table}\" t ORDER BY 1")  # noqa: S608
                )
                if OWNER in row
            ]
            for table in set(Base.metadata.tables) - {"audit"}
        }


def test_the_walk_covers_every_operation(client: httpx.Client) -> None:
    known = set(ids_of(Filled(*[uuid.uuid4()] * len(fields(Filled)))))
    walked = operations(client)
    assert len(walked) >= 30
    for operation in walked:
        assert set(operation.parameters) <= known, f"no id for {operation.name}"
        assert not operation.takes_body or operation.name in BODIES, f"no body for {operation.name}"
    assert {operation.name for operation in walked if operation.scope is None} == OPEN
    assert {operation.name for operation in walked} >= set(BODIES) | NAME_A_TENANT


def test_nothing_is_shown_or_changed_without_the_right_to(
    client: httpx.Client, keys: Keys, sessions: Sessions
) -> None:
    owned = fill(sessions, OWNER)
    fill(sessions, STRANGER)
    before = contents(sessions)
    values = ids_of(owned)
    table: dict[str, list[int]] = {}
    wrong = []
    for operation in operations(client):
        row = table.setdefault(operation.name, [])
        for credential in keys.columns:
            answer = call(client, operation, credential.headers(operation), values)
            row.append(answer.status_code)
            told = f"{operation.name}, {credential.name}: {answer.status_code} {answer.text[:200]}"
            if answer.status_code != _expected(operation, credential, answer.status_code):
                wrong.append(told)
            elif OWNER in shown(answer) and not (answer.status_code == 403 and operation.name in NAME_A_TENANT):
                wrong.append(f"shows a row: {told}")
    print(_drawn(table, [credential.name for credential in keys.columns]))  # noqa: T201
    assert wrong == []
    assert contents(sessions) == before


def _expected(operation: Operation, credential: Credential, status: int) -> int:
    """The status that it has to be; that which it is, where a valid credential gets what is its own."""
    if operation.scope is None:
        return 200
    if credential.expected is not None:
        return credential.expected
    if operation.name in NAME_A_TENANT:
        return 403
    if operation.names_a_row:
        return 404
    return status if status < 300 or status == 409 else 200


def _drawn(table: Mapping[str, list[int]], columns: list[str]) -> str:
    width = max(map(len, table))
    lines = ["", "".ljust(width) + "".join(f"  {name}" for name in columns)]
    for name, statuses in table.items():
        cells = (str(status).rjust(len(column) + 2) for status, column in zip(statuses, columns, strict=True))
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


def test_no_id_of_another_tenant_opens_anything(client: httpx.Client, keys: Keys, sessions: Sessions) -> None:
    """Each id in each place: an export's is that of a job too, and an enrolment's is one that nobody sees."""
    owned = fill(sessions, OWNER)
    values = ids_of(owned)
    before = contents(sessions)
    for operation in operations(client):
        places = [name for name in operation.parameters if name.endswith("_id")]
        for place in places:
            for kind, row_id in asdict(owned).items():
                asked = values | {place: str(row_id)}
                answer = call(client, operation, keys.stranger.headers(operation), asked)
                assert answer.status_code == 404, (operation.name, kind, answer.text)
                assert OWNER not in shown(answer), (operation.name, kind)
    assert contents(sessions) == before


def test_the_owner_gets_what_others_do_not(client: httpx.Client, keys: Keys, sessions: Sessions) -> None:
    """Which shows that the walk asks for what is there, and that it would see a row that is shown."""
    told = []
    for operation in operations(client):
        answer = call(client, operation, bearer(keys.owner), ids_of(fill(sessions, OWNER)))
        if operation.name in RUNS_THE_SERVER:
            assert answer.status_code == 403, (operation.name, answer.text)
            continue
        assert answer.status_code < 400 or answer.status_code == 409, (operation.name, answer.text)
        if OWNER in shown(answer):
            told.append(operation.name)
    expected = {
        *("GET /v1/jobs", "GET /v1/jobs/{job_id}", "GET /v1/jobs/{job_id}/events"),
        *("GET /v1/jobs/{job_id}/transcript", "PATCH /v1/jobs/{job_id}/segments/{index}"),
        *("GET /v1/voices", "GET /v1/voices/{voice_id}", "GET /v1/exports", "GET /v1/exports/{export_id}"),
        *("GET /v1/model-versions", "GET /v1/model-versions/{version_id}"),
        *("POST /v1/keys", "GET /v1/keys", "GET /v1/keys/{key_id}"),
        *("GET /v1/quotas", "GET /v1/tenants/{name}"),
    }
    assert expected <= set(told), expected - set(told)
