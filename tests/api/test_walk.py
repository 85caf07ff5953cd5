"""Every operation of /openapi.json with every kind of credential: only what is the caller's is shown or changed.

The operations come from the schema. One that needs a body or an id that is unknown here fails the walk until it
has one: nothing is passed over. An answer shows a row if it holds the owner's name, or an id of the owner's that
nobody sent.
"""

from __future__ import annotations

import re
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select, text

from api.access import failures
from api.access.authenticate import Authenticator, caller_of
from api.access.caller import ALL_SCOPES
from api.access.tokens import GRANTABLE
from api.app import create_app
from api.routes import page
from db.access import keys as stored_keys
from db.models import Base, Priority, Scope, StoredKey
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.filled import EXPORT_FILE, READING, SEGMENT, TEMPLATE, Filled, fill

OWNER, STRANGER = "tenant-of-the-owner", "tenant-of-the-stranger"
"""The owner's name is in all of its rows, so an answer that holds it shows one."""

OPEN = {"GET /healthz", "GET /readyz", "GET /.well-known/jwks.json"}
"""Operations that everybody may use. They show nothing of a tenant."""

EVERY_CALLER = {"GET /v1/quotas", "GET /api/health", "GET /v1/models", "GET /v1/models/{model}", "GET /v1/server"}
"""Operations that show callers what is theirs, whatever their scopes."""

ONLY_SUMS = {
    *("GET /api/health", "GET /v1/models", "GET /v1/models/{model}"),
    *("GET /v1/usage", "GET /v1/usage?tenant={name}", "GET /v1/server", "GET /v1/jobs/{job_id}/peaks"),
    "GET /v1/queues",
    "GET /v1/model-versions/report",
}
"""Operations that read, and name no row."""

AUDIT = "GET /v1/audit"

WAITS = {"POST /api/transcribe", "POST /v1/audio/transcriptions", "POST /v1/audio/translations"}
"""Operations that wait for workers, of which there are none here."""

TAKES_A_LINK = {"GET /v1/shared"}
"""Operations that a link alone opens."""

RUNS_THE_SERVER = {"PUT /v1/tenants/{name}", "PATCH /v1/tenants/{name}"}
"""Operations for nobody who is just a tenant."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "GET /v1/jobs/{job_id}/transcript": ("?original=true",),
    "POST /v1/jobs": (" of {upload_id}",),
    "POST /v1/jobs/bulk": (" of {search_id}", " into {collection_id}"),
    "POST /v1/jobs/bulk/transcripts": (" of {search_id}",),
    "POST /v1/voices": (" of {job_id}",),
    "POST /v1/uploads": (" by tus",),
    "GET /v1/usage": ("?tenant={name}", "?group_by=key"),
    "GET /v1/keys": ("?tenant={name}",),
    "POST /v1/keys": (" for {name}",),
    "POST /v1/finetunes": (" on {export_id}",),
    "POST /v1/erasures": (" of {voice_id}",),
}
"""Other ways to ask: by a query, or by another body."""

QUERIES: Mapping[str, str] = {"GET /v1/search": "?q=tenant"}
"""What operations cannot do without."""

NAME_A_TENANT = {
    *("GET /v1/usage?tenant={name}", "GET /v1/keys?tenant={name}", "POST /v1/keys for {name}"),
    *("GET /v1/tenants/{name}", *RUNS_THE_SERVER),
}
"""Operations that are asked for the owner by its name. Nobody but itself and who runs the server is answered."""

NOT_IN_THE_SCHEMA = {
    *("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs/{path}"),
    *(*page.PATHS, "/favicon.svg", "/assets/{name}", "/metrics"),
}
"""Where the schema itself is shown, the page, and what Prometheus reads. The walk goes nowhere else that it does
not know from there."""

ATTEMPTS = 20
"""To send a body to who may refuse it unread."""

FILE = {"file": ("talk.wav", b"RIFF", "audio/wav")}
PIECE = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}
KEY = {"name": "mine", "scopes": ["jobs:read"]}
HOOK = {"url": "https://hooks.example/", "events": ["job.completed"]}
LIMITS = {"json": {"jobs_at_once": 100}}


def bodies(values: Mapping[str, str]) -> Mapping[str, dict[str, Any]]:
    """What operations with a body are sent."""
    return {
        "POST /v1/jobs": {"files": FILE},
        "POST /v1/jobs of {upload_id}": {"json": {"upload_id": values["upload_id"]}},
        "POST /v1/uploads": {"json": {"bytes": 4, "filename": "talk.wav"}},
        "POST /v1/uploads by tus": {"content": b"RIFF", "headers": PIECE | {"Upload-Length": "4"}},
        "PATCH /v1/uploads/{upload_id}": {"content": b"RIFF", "headers": PIECE | {"Upload-Offset": "0"}},
        "POST /api/transcribe": {"json": {"file_path": "https://recordings.example/talk.wav"}},
        "POST /v1/audio/transcriptions": {"data": {"model": "whisper-1"}, "files": FILE},
        "POST /v1/audio/translations": {"data": {"model": "whisper-1"}, "files": FILE},
        "POST /v1/hooks/s3": {"json": {"Records": [{"eventName": "ObjectRemoved:Delete"}]}},
        "POST /v1/voices": {"data": {"name": "Ada"}, "files": FILE},
        "PATCH /v1/voices/{voice_id}": {"json": {"training": False}},
        "POST /v1/voices of {job_id}": {
            "json": {"name": "Ada", "job_id": values["job_id"], "speaker": values["speaker"]}
        },
        "PATCH /v1/jobs/{job_id}": {"json": {"title": "changed", "tags": ["changed"]}},
        "POST /v1/jobs/bulk": {"json": {"action": "tag", "tags": ["changed"], "filter": {"q": "no such name"}}},
        "POST /v1/jobs/bulk of {search_id}": {"json": {"action": "cancel", "search": values["search_id"]}},
        "POST /v1/jobs/bulk into {collection_id}": {
            "json": {"action": "collect", "jobs": [values["job_id"]], "collection": values["collection_id"]}
        },
        "POST /v1/jobs/bulk/transcripts": {"json": {"jobs": [values["job_id"]]}},
        "POST /v1/jobs/bulk/transcripts of {search_id}": {"json": {"search": values["search_id"]}},
        "POST /v1/jobs/{job_id}/links": {"json": {}},
        "POST /v1/collections": {"json": {"name": "mine"}},
        "PATCH /v1/collections/{collection_id}": {"json": {"name": "changed"}},
        "PATCH /v1/collections/{collection_id}/jobs": {"json": {"remove": [values["job_id"]]}},
        "POST /v1/searches": {"json": {"name": "mine", "query": {"q": "changed"}}},
        "PATCH /v1/jobs/{job_id}/segments/{index}": {"json": {"text": "changed"}},
        "POST /v1/jobs/{job_id}/segments/{index}/revert": {"json": {}},
        "POST /v1/jobs/{job_id}/segments/{index}/split": {"json": {"at": 1}},
        "POST /v1/jobs/{job_id}/segments/{index}/merge": {"json": {"next": SEGMENT + 1}},
        "PATCH /v1/jobs/{job_id}/speakers": {"json": {"label": values["speaker"], "name": "Ada"}},
        "POST /v1/jobs/{job_id}/speakers/merge": {"json": {"label": values["speaker"], "into": f"{OWNER} too"}},
        "POST /v1/jobs/{job_id}/summaries": {"json": {}},
        "POST /v1/jobs/{job_id}/questions": {"json": {"question": "who?"}},
        "POST /v1/jobs/{job_id}/translations": {"json": {"language": "fr"}},
        "POST /v1/vocabulary": {"json": {"term": "Ada"}},
        "PATCH /v1/vocabulary/{term_id}": {"json": {"sounds_like": ["adder"]}},
        "PUT /v1/templates/{template}": {"json": {"instructions": "in short"}},
        "POST /v1/exports": {"json": {}},
        "POST /v1/finetunes": {"json": {}},
        "POST /v1/finetunes on {export_id}": {"json": {"exports": [values["export_id"]]}},
        "POST /v1/erasures": {"json": {"name": "Ada"}},
        "POST /v1/erasures of {voice_id}": {"json": {"voice_id": values["voice_id"]}},
        "POST /v1/keys": {"json": KEY},
        "POST /v1/keys for {name}": {"json": KEY | {"tenant": values["name"]}},
        "POST /v1/keys/{key_id}/rotate": {"json": {}},
        "POST /v1/tokens": {"json": {"scopes": ["jobs:read"], "job_id": values["job_id"]}},
        "POST /v1/webhooks": {"json": HOOK},
        "PATCH /v1/webhooks/{webhook_id}": {"json": {"description": "changed"}},
        "POST /v1/webhooks/secret": {"json": {}},
        "POST /v1/webhooks/{webhook_id}/rotate": {"json": {}},
        "PUT /v1/tenants/{name}": LIMITS,
        "PATCH /v1/tenants/{name}": LIMITS,
    }


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    scope: Scope | None
    """None where any caller will do, or none is asked for."""
    takes_body: bool
    variant: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}{self.variant}"

    @property
    def url(self) -> str:
        return self.path + (self.variant if self.variant.startswith("?") else QUERIES.get(self.name, ""))

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.name)

    @property
    def ids(self) -> list[str]:
        """Where it names a row, in its path or its body."""
        in_body = ["job_id"] if self.name == "POST /v1/tokens" else []
        return [name for name in self.parameters if name.endswith("_id")] + in_body


@dataclass(frozen=True)
class Credential:
    """One column of the table: what is sent with an operation, and what all that are protected answer."""

    name: str
    headers: Callable[[Operation], Mapping[str, str]]
    expected: int | None
    """None for a valid credential of another tenant."""
    query: Mapping[str, str] = field(default_factory=dict)
    is_token: bool = False
    """A token neither manages keys nor makes others."""
    lacks_scope: bool = False
    names: Set[str] = frozenset()
    """Ids of the owner's that stand in it, so that a refusal may repeat them."""


@dataclass(frozen=True)
class Keys:
    """All of the owner but for the stranger's, which may do all that a tenant may."""

    owner: str
    stranger: str
    expired: str
    revoked: str
    scopeless: str
    lacking: Mapping[Scope, str]
    """For each scope, a key with all others."""


def always(headers: Mapping[str, str]) -> Callable[[Operation], Mapping[str, str]]:
    return lambda _: headers


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def keys(sessions: Sessions) -> Keys:
    def make(tenant: str, scopes: Set[Scope] = ALL_SCOPES, expires_at: datetime | None = None) -> str:
        with sessions.begin() as session:
            _, key = stored_keys.create(
                session,
                tenant=tenant,
                name=f"of {tenant}",
                scopes=scopes,
                max_priority=Priority.HIGH,
                expires_at=expires_at,
            )
        return key

    revoked = make(OWNER)
    with sessions.begin() as session:
        digest = stored_keys.digest_of(revoked)
        stored_keys.end(session, session.scalars(select(StoredKey.id).where(StoredKey.digest == digest)).one())
    return Keys(
        owner=make(OWNER),
        stranger=make(STRANGER),
        expired=make(OWNER, expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        revoked=revoked,
        scopeless=make(OWNER, set()),
        lacking={scope: make(OWNER, ALL_SCOPES - {scope, Scope.ADMIN}) for scope in Scope},
    )


@pytest.fixture
def app(settings: Settings, keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FastAPI:
    # the walk guesses more often than anybody may
    monkeypatch.setattr(failures, "MAX_FAILURES", 10_000)
    endpoints = tmp_path / "endpoints.toml"
    endpoints.write_text('[[language_model]]\nname = "reader"\nhosts = ["http://127.0.0.1:9"]\n')
    changes = {"training_tenants": ["*"], "transcribe_seconds": 0.1, "endpoints": endpoints}
    return create_app(settings.model_copy(update=changes))


@pytest.fixture
def client(app: FastAPI, settings: Settings) -> Iterator[httpx.Client]:
    with serving(app, settings) as opened:
        yield opened


def credentials(client: httpx.Client, app: FastAPI, keys: Keys, another_job: uuid.UUID) -> list[Credential]:
    """The columns. ``another_job`` is the owner's too."""
    authenticator: Authenticator = app.state.services.authenticator

    def token(key: str, scopes: Set[Scope] = GRANTABLE, **values: Any) -> str:
        answer = client.post("/v1/tokens", json={"scopes": sorted(scopes)} | values, headers=bearer(key))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def expired_token() -> str:
        known = app.state.services.directory.find_key(stored_keys.digest_of(keys.owner))
        return authenticator.issue(caller_of(known), GRANTABLE, None, -60)[0]

    theirs, strangers = token(keys.owner), token(keys.stranger)
    job = str(another_job)
    head, claims, _ = theirs.split(".")
    unsigned = urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return [
        Credential("another tenant's key", always(bearer(keys.stranger)), None),
        Credential("and its token", always(bearer(strangers)), None, is_token=True),
        Credential("none", always({}), 401),
        Credential("forged key", always(bearer(keys.owner[:-1] + ("a" if keys.owner[-1] != "a" else "b"))), 401),
        Credential("prefix alone", always(bearer(keys.owner[:12])), 401),
        Credential("other scheme", always({"Authorization": f"Basic {keys.owner}"}), 401),
        Credential("expired key", always(bearer(keys.expired)), 401),
        Credential("revoked key", always(bearer(keys.revoked)), 401),
        Credential("scopeless key", always(bearer(keys.scopeless)), 403, lacks_scope=True),
        Credential(
            "other scopes",
            lambda operation: bearer(keys.lacking[operation.scope] if operation.scope else keys.scopeless),
            403,
            lacks_scope=True,
        ),
        Credential("expired token", always(bearer(expired_token())), 401),
        Credential("forged token", always(bearer(f"{head}.{claims}.{strangers.split('.')[2]}")), 401),
        Credential("unsigned token", always(bearer(f"{unsigned}.{claims}.")), 401),
        Credential("token of one job", always(bearer(token(keys.owner, job_id=job))), 403, names={job}),
        Credential("token in the URL", always({}), 401, query={"token": strangers}, is_token=True),
    ]


def operations(client: httpx.Client) -> list[Operation]:
    return [
        Operation(method.upper(), path, _scope(described), "requestBody" in described, variant)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method, described in methods.items()
        for variant in ("", *VARIANTS.get(f"{method.upper()} {path}", ()))
    ]


def _scope(described: Mapping[str, Any]) -> Scope | None:
    scopes = [scope for way in described.get("security", ()) for names in way.values() for scope in names]
    return Scope(scopes[0]) if scopes else None


def ids_of(owned: Filled) -> dict[str, str]:
    """A value for each parameter of a path."""
    return {
        "job_id": str(owned.done),
        "index": str(SEGMENT),
        "number": str(READING),
        "term_id": str(owned.term),
        "template": TEMPLATE,
        "speaker": OWNER,
        "voice_id": str(owned.voice),
        "export_id": str(owned.export),
        "path": EXPORT_FILE,
        "finetune_id": str(owned.finetune),
        "version_id": str(owned.version),
        "key_id": str(owned.key),
        "upload_id": str(owned.upload),
        "erasure_id": str(owned.erasure),
        "webhook_id": str(owned.webhook),
        "delivery_id": str(owned.delivery),
        "collection_id": str(owned.collection),
        "search_id": str(owned.search),
        "link_id": str(owned.link),
        "model": "whisper-1",
        "name": OWNER,
    }


def call(
    client: httpx.Client, operation: Operation, credential: Credential, values: Mapping[str, str]
) -> httpx.Response:
    url = httpx.URL(operation.url.format(**values)).copy_merge_params(credential.query)
    body = dict(bodies(values)[operation.name]) if operation.takes_body else {}
    headers = {**body.pop("headers", {}), **credential.headers(operation)}
    for _ in range(ATTEMPTS):
        # refused before its body was read, the line may be closed before the answer could be
        with suppress(httpx.ReadError, httpx.WriteError):
            return client.request(operation.method, url, headers=headers, **body)
    raise AssertionError(f"{operation.name}, {credential.name}: no answer")


def shows(response: httpx.Response, owned: Iterable[Filled], sent: Set[str] = frozenset()) -> bool:
    """Whether an answer tells anything of the owner's, but for the ids that were sent."""
    ids = {str(row_id) for filled in owned for row_id in asdict(filled).values()}
    told = response.text + str(response.headers)
    return any(mark in told for mark in {OWNER, *ids} - sent)


def sent_ids(operation: Operation, credential: Credential, values: Mapping[str, str]) -> set[str]:
    # the audit log tells callers what they tried before, too
    named = [name for name in values if name.endswith("_id")] if operation.name == AUDIT else operation.ids
    return {values[name] for name in named} | credential.names


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
    values = ids_of(Filled(*[uuid.uuid4()] * len(fields(Filled))))
    walked = operations(client)
    assert len(walked) >= 40
    for operation in walked:
        assert set(operation.parameters) <= set(values), f"no id for {operation.name}"
        assert not operation.takes_body or operation.name in bodies(values), f"no body for {operation.name}"
    names = {operation.name for operation in walked}
    assert names >= OPEN | EVERY_CALLER | NAME_A_TENANT | set(bodies(values))


def test_the_schema_names_every_route(client: httpx.Client, app: FastAPI) -> None:
    """A route that it leaves out would not be walked."""
    walked = {f"{operation.method} {operation.path}" for operation in operations(client)}
    hidden = {
        route.path_format
        for route in iter_route_contexts(app.routes)
        if not walked.issuperset(f"{method} {route.path_format}" for method in route.methods or {"any"})
    }
    assert hidden == NOT_IN_THE_SCHEMA


def test_nothing_is_shown_or_changed_without_the_right_to(
    client: httpx.Client, app: FastAPI, keys: Keys, sessions: Sessions
) -> None:
    owned, another = fill(sessions, OWNER), fill(sessions, OWNER)
    fill(sessions, STRANGER)
    columns = credentials(client, app, keys, another.done)
    before, values = contents(sessions), ids_of(owned)
    table: dict[str, list[int]] = {}
    wrong = []
    for operation in operations(client):
        row = table.setdefault(operation.name, [])
        for credential in columns:
            answer = call(client, operation, credential, values)
            row.append(answer.status_code)
            told = f"{operation.name}, {credential.name}: {answer.status_code} {answer.text[:200]}"
            if answer.status_code != _expected(operation, credential, answer.status_code):
                wrong.append(told)
            elif not _may_name_the_owner(operation, credential, answer) and shows(
                answer, (owned, another), sent_ids(operation, credential, values)
            ):
                wrong.append(f"shows a row: {told}")
    print(_drawn(table, [credential.name for credential in columns]))  # noqa: T201
    assert wrong == []
    assert contents(sessions) == before


def _expected(operation: Operation, credential: Credential, status: int) -> int:
    """The status that it has to be; that which it is, where a valid credential gets what is its own."""
    if operation.name in OPEN or (operation.name in EVERY_CALLER and credential.lacks_scope):
        return 200
    if credential.query and re.fullmatch(r"GET .*/(events|audio)", operation.name):
        return 404
    if credential.expected is not None:
        return credential.expected
    if operation.name in NAME_A_TENANT | TAKES_A_LINK:
        return 403
    if credential.is_token and (operation.scope is Scope.ADMIN or operation.name == "POST /v1/tokens"):
        return 404 if operation.name == "POST /v1/tokens" else 403
    if operation.ids:
        return 404
    if operation.name in WAITS:
        return 504
    return status if status < 300 or status == 409 else 200


def _may_name_the_owner(operation: Operation, credential: Credential, answer: httpx.Response) -> bool:
    """A refusal repeats the name that it was asked for, and who lacks a scope is the owner itself."""
    if operation.name in EVERY_CALLER:
        return credential.lacks_scope
    return answer.status_code == 403 and operation.name in NAME_A_TENANT


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
    before = contents(sessions)
    stranger = Credential("stranger", always(bearer(keys.stranger)), None)
    for operation in operations(client):
        for place in operation.ids:
            for kind, row_id in asdict(owned).items():
                values = ids_of(owned) | {place: str(row_id)}
                answer = call(client, operation, stranger, values)
                assert answer.status_code == 404, (operation.name, kind, answer.text)
                assert not shows(answer, [owned], sent_ids(operation, stranger, values)), (operation.name, kind)
    assert contents(sessions) == before


def test_the_owner_gets_what_others_do_not(client: httpx.Client, keys: Keys, sessions: Sessions) -> None:
    """Which shows that the walk asks for what is there, and that it would see a row that is shown."""
    told, owner = set(), Credential("owner", always(bearer(keys.owner)), None)
    for operation in operations(client):
        # some of what names a row removes it, and lists show the newest
        owned = fill(sessions, OWNER)
        values = ids_of(owned)
        answer = call(client, operation, owner, values)
        if operation.name in RUNS_THE_SERVER | TAKES_A_LINK:
            assert answer.status_code == 403, (operation.name, answer.text)
            continue
        late = operation.name in WAITS and answer.status_code == 504
        assert late or answer.status_code < 400 or answer.status_code == 409, (operation.name, answer.text)
        # an address of a file is made of its id; what else repeats what it was sent has shown nothing yet
        if shows(answer, [owned], set() if answer.is_redirect else sent_ids(operation, owner, values)):
            told.add(operation.name)
    reading = {"PATCH /v1/jobs/{job_id}/segments/{index}", "POST /v1/keys"} | {
        operation.name
        for operation in operations(client)
        if operation.method == "GET" and operation.name not in OPEN | ONLY_SUMS | TAKES_A_LINK
    }
    assert reading <= told, reading - told
