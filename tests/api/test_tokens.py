"""Tokens: short-lived, for a part of what a key may do, checked by every process and by other services."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm
from oidc_provider_mock import run_server_in_thread
from oidc_provider_mock._client_lib import OidcClient
from sqlalchemy import delete, select, update
from typer.testing import CliRunner

from api.access import directory, oidc
from api.access.oidc import Oidc
from api.access.signers import ANNOUNCED, CACHED
from api.app import create_app
from api.problems import Problem
from cli.main import app as command_line
from cli.stack.process import HOST, free_port
from cli.stack.product import Api
from db.access import signing
from db.access.revisions import next_revision
from db.models import EventType, JobStatus, SigningKey, StoredKey
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.api.test_jobs import problem, upload
from tests.api.test_keys import ROOT, bearer, code_of, make
from tests.conftest import environment_of
from tests.jobs import make_job
from tests.waiting import LIMIT_SECONDS, until

ENVIRONMENT = {"root": ApiKey(tenant="house", max_priority="high")}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_keys": ENVIRONMENT})


def token(client: httpx.Client, headers: dict[str, str] = ROOT, **wanted: Any) -> str:
    answer = client.post("/v1/tokens", json={"scopes": ["jobs:read"]} | wanted, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def sent(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, problem(answer)["code"]


def test_a_token_does_a_part_of_what_its_key_may(client: httpx.Client) -> None:
    key = make(client, scopes=["jobs:read", "jobs:write"])
    made = token(client, bearer(key), scopes=["jobs:read"])
    assert client.get("/v1/jobs", headers=sent(made)).status_code == 200
    client.headers.update(sent(made))
    assert refusal(upload(client)) == (403, "scope_missing")
    assert refusal(client.post("/v1/tokens", json={"scopes": ["jobs:read"]})) == (403, "key_needed")
    for scopes in (["voices"], ["admin"]):
        answer = client.post("/v1/tokens", json={"scopes": scopes}, headers=bearer(key))
        assert refusal(answer) == (403, "scope_missing")
    answer = client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=ROOT)
    assert refusal(answer) == (403, "scope_missing")
    answer = client.post("/v1/tokens", json={"scopes": ["jobs:read"], "seconds": 3601}, headers=ROOT)
    assert refusal(answer) == (422, "token_too_long")


def test_a_token_ends_with_its_time_and_with_its_key(client: httpx.Client) -> None:
    short = token(client, seconds=1)
    assert client.get("/v1/jobs", headers=sent(short)).status_code == 200
    key = make(client)
    made = token(client, bearer(key))
    assert client.get("/v1/jobs", headers=sent(made)).status_code == 200
    assert client.delete(f"/v1/keys/{key['id']}", headers=ROOT).status_code == 204
    assert refusal(client.get("/v1/jobs", headers=sent(made))) == (401, "token_invalid")
    until(lambda: client.get("/v1/jobs", headers=sent(short)).status_code == 401)
    assert refusal(client.get("/v1/jobs", headers=sent(short))) == (401, "token_expired")


def test_a_token_for_one_job_opens_nothing_else(client: httpx.Client, sessions: Sessions) -> None:
    job, other = make_job(sessions, tenant="house"), make_job(sessions, tenant="house")
    made = token(client, scopes=["jobs:read", "jobs:write", "voices", "training"], job_id=str(job))
    strangers = make_job(sessions, tenant="stranger")
    answer = client.post("/v1/tokens", json={"scopes": ["jobs:read"], "job_id": str(strangers)}, headers=ROOT)
    assert refusal(answer) == (404, "job_not_found")
    with client.stream("GET", f"/v1/jobs/{job}/events", headers=sent(made)) as stream:
        assert stream.status_code == 200
    opened = set()
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method in operations if path.startswith("/v1/") else ():
            for job_id in (job, other):
                url = (
                    path.replace("{job_id}", str(job_id)).replace("{index}", "0").replace("{", "").replace("}", "")
                )
                if url.endswith("/events"):
                    continue  # streams; below
                answer = client.request(method, url, headers=sent(made))
                if answer.status_code != 403:
                    opened.add(url)
                else:
                    assert code_of(answer) in ("token_of_one_job", None)
    assert {url.split("/")[3] for url in opened} == {str(job)}
    assert client.get(f"/v1/jobs/{other}/events", headers=sent(made)).status_code == 403


def test_a_url_takes_a_token_for_streams_and_audio_alone(client: httpx.Client, sessions: Sessions) -> None:
    job = make_job(sessions, tenant="house")
    made = token(client, job_id=str(job))
    with client.stream("GET", f"/v1/jobs/{job}/events?token={made}") as stream:
        assert stream.status_code == 200
    assert client.get(f"/v1/jobs/{job}/audio?token={made}", follow_redirects=False).status_code == 307
    assert refusal(client.get(f"/v1/jobs/{job}?token={made}")) == (401, "unauthorized")
    assert refusal(client.get(f"/v1/jobs/{job}/audio?token=root")) == (401, "token_invalid")
    key = make(client, tenant="house")
    assert refusal(client.get(f"/v1/jobs/{job}/audio?token={key['key']}")) == (401, "token_invalid")
    assert made not in client.get(f"/v1/jobs/{job}/audio?token={made}x").text
    # what has a header is who it says; elsewhere a token in the URL is not there
    assert client.get(f"/v1/jobs/{job}/audio?token=x", headers=ROOT).status_code == 307
    assert client.get("/v1/jobs", params={"token": "x", "limit": 1}, headers=ROOT).status_code == 200


class LoggingApi(Api):
    """The application in a server that logs requests, as ours does not."""

    def command(self) -> list[str]:
        serve = f"uvicorn.run(create_app(), host={self.host!r}, port={self.port})"
        return [sys.executable, "-c", f"import uvicorn; from api.app import create_app; {serve}"]


@pytest.mark.parametrize("server", [Api, LoggingApi])
def test_no_log_has_a_token_of_a_url(
    settings: Settings, sessions: Sessions, tmp_path: Path, server: type[Api]
) -> None:
    job, log = make_job(sessions, tenant="house"), tmp_path / "api.log"
    api = server(environment_of(settings), log, port=free_port())
    api.start()
    try:
        with httpx.Client(base_url=api.url) as client:
            made = token(client)
            for path in ("audio", "events", "transcript", "nothing", "events?after=x&"):
                for value in (made, made + "x"):
                    url = f"/v1/jobs/{job}/{path}?format=txt&%74oken={value}&token={value}"
                    with client.stream("GET", url) as answer:
                        if path != "events":
                            assert value not in answer.read().decode()
    finally:
        api.stop()
    written = log.read_text()
    assert made.split(".")[1] not in written
    assert (f"GET /v1/jobs/{job}/audio?format=txt HTTP" in written) == (server is LoggingApi)


def test_a_stream_ends_with_the_key(client: httpx.Client, sessions: Sessions) -> None:
    """And with it that of a token that the key has made; what happens afterwards is not shown."""
    job = make_job(sessions, tenant="house")
    key = make(client, tenant="house")
    with ExitStack() as stack:
        streams = [
            stack.enter_context(client.stream("GET", f"/v1/jobs/{job}/events", headers=headers)).iter_lines()
            for headers in (bearer(key), sent(token(client, bearer(key))), ROOT)
        ]
        for lines in streams:
            assert next(line for line in lines if line.startswith("event")) == "event: job.queued"
        assert client.delete(f"/v1/keys/{key['id']}", headers=ROOT).status_code == 204
        with job_transaction(sessions, job) as tx:
            tx.emit(EventType.JOB_STARTED, {})
            tx.job.status = JobStatus.CANCELLED
            tx.emit(EventType.JOB_CANCELLED, {})
        shown = [[line for line in lines if line.startswith("event")] for lines in streams]
    assert shown == [[], [], ["event: job.started", "event: job.cancelled"]]


def forged(made: str) -> Iterator[tuple[str, str]]:
    """Tokens with the claims of a good one that nobody issued, by how they were made."""
    head = {name: value for name, value in jwt.get_unverified_header(made).items() if name == "kid"}
    claims = jwt.decode(made, options={"verify_signature": False})
    own = Ed25519PrivateKey.generate()
    yield "another's key under our kid", jwt.encode(claims, own, "EdDSA", headers=head)
    yield "an unknown kid", jwt.encode(claims, own, "EdDSA", headers={"kid": "unknown"})
    yield "no kid", jwt.encode(claims, own, "EdDSA")
    yield "no signature", jwt.encode(claims, "", "none", headers=head)
    first, body, signature = made.split(".")
    changed = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "stranger"}).encode()).decode().rstrip("=")
    yield "changed claims", f"{first}.{changed}.{signature}"
    yield "nonsense", "a.b.c"
    yield (
        "a kid that is no string",
        ".".join((base64.urlsafe_b64encode(b'{"alg":"EdDSA","kid":{}}').decode().rstrip("="), body, signature)),
    )


def test_no_forged_token_passes(client: httpx.Client) -> None:
    made = token(client)
    for how, value in forged(made):
        assert refusal(client.get("/v1/jobs", headers=sent(value))) == (401, "token_invalid"), how
    public = jwt.PyJWK(client.get("/.well-known/jwks.json").json()["keys"][0]).key
    shared = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    claims = jwt.decode(made, options={"verify_signature": False})
    confused = jwt.encode(claims, shared, "HS256", headers=jwt.get_unverified_header(made) | {"alg": "HS256"})
    assert refusal(client.get("/v1/jobs", headers=sent(confused))) == (401, "token_invalid")


def test_a_token_of_a_key_of_the_environment_ends_when_that_is_gone(settings: Settings) -> None:
    changed = settings.model_copy(update={"api_keys": {"next": ENVIRONMENT["root"]}})
    with serving(create_app(settings), settings) as before, serving(create_app(changed), changed) as after:
        made = token(before)
        assert before.get("/v1/jobs", headers=sent(made)).status_code == 200
        assert refusal(after.get("/v1/jobs", headers=sent(made))) == (401, "token_invalid")


def test_a_token_does_no_more_than_its_key_does_by_now(client: httpx.Client, sessions: Sessions) -> None:
    key = make(client, tenant="house", scopes=["jobs:read", "jobs:write"])
    made = token(client, bearer(key), scopes=["jobs:read", "jobs:write"])
    client.headers.update(sent(made))
    assert upload(client).status_code == 202
    with sessions.begin() as session:
        values = {"scopes": ["jobs:read"], "revision": next_revision(session)}
        session.execute(update(StoredKey).where(StoredKey.id == key["id"]).values(values))
    until(lambda: upload(client).status_code == 403)
    assert client.get("/v1/jobs").status_code == 200


def test_a_key_of_the_environment_may_look_like_a_token(settings: Settings) -> None:
    dotted = settings.model_copy(update={"api_keys": {"v1.2.3": "house"}})
    with serving(create_app(dotted), dotted) as client:
        assert client.get("/v1/jobs", headers=sent("v1.2.3")).status_code == 200
        assert refusal(client.get("/v1/jobs", headers=sent("v1.2.4"))) == (401, "token_invalid")


def test_the_command_line_makes_tokens(client: httpx.Client, sessions: Sessions) -> None:
    job = make_job(sessions, tenant="house")
    asked = ["token", "--job", str(job), "--scopes", "jobs:read, jobs:write", "--expires", "10m"]
    done = CliRunner().invoke(command_line, [*asked, "--url", str(client.base_url), "--key", "root"])
    assert done.exit_code == 0, done.output
    claims = jwt.decode(done.output.strip(), options={"verify_signature": False})
    assert (claims["job"], claims["scope"], claims["exp"] - claims["iat"]) == (
        str(job),
        "jobs:read jobs:write",
        600,
    )
    assert client.get(f"/v1/jobs/{job}", headers=sent(done.output.strip())).status_code == 200


def test_other_services_can_check_tokens(client: httpx.Client) -> None:
    made = token(client, scopes=["jobs:read", "voices"])
    answer = client.get("/.well-known/jwks.json")
    assert "max-age" in answer.headers["Cache-Control"]
    kid = jwt.get_unverified_header(made)["kid"]
    (key,) = [key for key in answer.json()["keys"] if key["kid"] == kid]
    assert "d" not in key
    claims = jwt.decode(made, jwt.PyJWK(key), ["EdDSA"], issuer="longhand")
    assert (claims["sub"], claims["scope"]) == ("house", "jobs:read voices")


def test_processes_know_each_others_signing_keys_and_outlive_a_rotation(
    settings: Settings, sessions: Sessions
) -> None:
    sealed = settings.model_copy(update={"secret_key": Fernet.generate_key().decode()})
    with ExitStack() as stack:
        first, second = (stack.enter_context(serving(create_app(sealed), sealed)) for _ in range(2))
        made = token(first)
        assert second.get("/v1/jobs", headers=sent(made)).status_code == 200
        with sessions.begin() as session:
            assert session.scalar(select(SigningKey.private_key)).startswith(b"f:")  # type: ignore[union-attr]
            session.execute(update(SigningKey).values(created_at=SigningKey.created_at - timedelta(days=40)))
        third = stack.enter_context(serving(create_app(sealed), sealed))
        assert len(third.get("/.well-known/jwks.json").json()["keys"]) == 2
        assert third.get("/v1/jobs", headers=sent(made)).status_code == 200
        # the new key is announced, and not used before every process knows it
        assert jwt.get_unverified_header(token(third))["kid"] == jwt.get_unverified_header(made)["kid"]
        with sessions.begin() as session:
            session.execute(update(SigningKey).values(created_at=SigningKey.created_at - timedelta(days=1)))
        newer = lambda: jwt.get_unverified_header(token(first))["kid"] != jwt.get_unverified_header(made)["kid"]  # noqa: E731
        until(newer)
        newest = token(first)

        def known() -> bool:
            answers = [api.get("/v1/jobs", headers=sent(newest)).status_code for api in (first, second, third)]
            return answers == [200, 200, 200]

        # a day is long to them, who look every other second
        until(known)
        for api in (first, second, third):
            assert api.get("/v1/jobs", headers=sent(made)).status_code == 200


def test_a_key_is_forgotten_once_its_last_token_has_expired(sessions: Sessions) -> None:
    def rotate() -> list[str]:
        with sessions.begin() as session:
            signing.rotate(session, bytes, after=timedelta(days=30), token_seconds=3600)
            return [row.kid for row in signing.known(session)]

    def age(**values: timedelta) -> None:
        with sessions.begin() as session:
            changes = {name: getattr(SigningKey, name) - by for name, by in values.items()}
            session.execute(update(SigningKey).where(SigningKey.kid == first).values(changes))

    (first,) = rotate()
    assert rotate() == [first]
    age(created_at=timedelta(days=31))
    assert (both := rotate())[0] == first
    age(retired_at=timedelta(hours=1))
    assert rotate() == both
    age(retired_at=timedelta(hours=2))
    assert rotate() == both[1:]


def test_processes_that_rotate_at_once_make_one_key(sessions: Sessions) -> None:
    with ThreadPoolExecutor(6) as pool:

        def rotate(_: int) -> None:
            with sessions.begin() as session:
                signing.rotate(session, bytes, after=timedelta(days=30), token_seconds=3600)

        list(pool.map(rotate, range(6)))
    with sessions() as session:
        assert len(signing.known(session)) == 1


def test_a_key_is_announced_for_longer_than_its_list_is_cached() -> None:
    assert CACHED < ANNOUNCED < signing.OVERLAP


def test_a_signing_key_that_cannot_be_opened_is_told_of_once(
    settings: Settings, sessions: Sessions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "NO_SIGNER_SECONDS", 0.5)
    sealed, other = (settings.model_copy(update={"secret_key": Fernet.generate_key().decode()}) for _ in range(2))
    with serving(create_app(sealed), sealed) as client:
        made = token(client)
    with serving(create_app(other), other) as client:
        assert refusal(client.get("/.well-known/jwks.json")) == (503, "unavailable")
        assert refusal(client.post("/v1/tokens", json={"scopes": ["voices"]}, headers=ROOT)) == (
            503,
            "unavailable",
        )
        assert refusal(client.get("/v1/jobs", headers=sent(made))) == (401, "token_invalid")
        # keys are read all the same, again and again
        key = make(client)
        until(lambda: client.get("/v1/jobs", headers=bearer(key)).status_code == 200)
        assert client.delete(f"/v1/keys/{key['id']}", headers=ROOT).status_code == 204
        assert len([record for record in caplog.records if "signing key" in record.message]) == 1
        # as the log says
        with sessions.begin() as session:
            session.execute(delete(SigningKey))
        until(lambda: client.get("/.well-known/jwks.json").status_code == 200)
        assert client.get("/v1/jobs", headers=sent(token(client))).status_code == 200
    rotated = settings.model_copy(update={"secret_key": f"{Fernet.generate_key().decode()}, {other.secret_key}"})
    with serving(create_app(rotated), rotated) as client:
        assert client.get("/v1/jobs", headers=sent(token(client))).status_code == 200


def test_a_secret_key_that_is_none_is_named(settings: Settings) -> None:
    with pytest.raises(ValueError, match="LONGHAND_SECRET_KEY"):
        create_app(settings.model_copy(update={"secret_key": "short"}))


class TestOidc:
    """Tokens of a real issuer, which runs beside the API."""

    REDIRECT = "http://127.0.0.1/back"

    @pytest.fixture(scope="class")
    def issuer(self) -> Iterator[str]:
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
        with run_server_in_thread() as server:
            yield f"http://localhost:{server.server_port}"

    @pytest.fixture
    def settings(self, settings: Settings, issuer: str) -> Settings:
        return settings.model_copy(
            update={"oidc_issuer": issuer, "oidc_audience": "transcripts", "oidc_scopes": ["jobs:read"]}
        )

    def id_token(self, issuer: str, client_id: str = "transcripts", **claims: Any) -> str:
        """What the issuer gives a user who has logged in."""
        user = uuid.uuid4().hex
        httpx.put(f"{issuer}/users/{user}", json=claims).raise_for_status()
        login = OidcClient(id=client_id, redirect_uri=self.REDIRECT, secret="x", issuer=issuer)
        address = login.authorization_url(state="s")
        answer = httpx.post(address, data={"sub": user})
        code = httpx.URL(answer.headers["Location"]).params["code"]
        granted = httpx.post(
            f"{issuer}/oauth2/token",
            data={"grant_type": "authorization_code", "code": code, "redirect_uri": self.REDIRECT},
            auth=(client_id, "x"),
        )
        return str(granted.raise_for_status().json()["id_token"])

    def test_its_tokens_open_their_tenant(self, client: httpx.Client, issuer: str, sessions: Sessions) -> None:
        mine, other = make_job(sessions, tenant="acme"), make_job(sessions, tenant="other")
        made = self.id_token(issuer, tenant="acme")
        assert client.get(f"/v1/jobs/{mine}", headers=sent(made)).status_code == 200
        assert client.get(f"/v1/jobs/{other}", headers=sent(made)).status_code == 404
        assert refusal(client.post(f"/v1/jobs/{mine}/cancel", headers=sent(made))) == (403, "scope_missing")
        scoped = self.id_token(issuer, tenant="acme", scope="jobs:write nonsense")
        assert client.post(f"/v1/jobs/{mine}/cancel", headers=sent(scoped)).status_code == 200
        assert refusal(client.get("/v1/jobs", headers=sent(scoped))) == (403, "scope_missing")

    def test_those_for_others_do_not(self, client: httpx.Client, issuer: str) -> None:
        elsewhere = self.id_token(issuer, "elsewhere", tenant="acme")
        assert refusal(client.get("/v1/jobs", headers=sent(elsewhere))) == (401, "token_invalid")
        homeless = self.id_token(issuer)
        assert refusal(client.get("/v1/jobs", headers=sent(homeless))) == (403, "tenant_missing")

    def test_forged_ones_do_not(self, client: httpx.Client, issuer: str) -> None:
        good = self.id_token(issuer, tenant="acme")
        assert client.get("/v1/jobs", headers=sent(good)).status_code == 200
        for how, value in forged(good):
            assert refusal(client.get("/v1/jobs", headers=sent(value))) == (401, "token_invalid"), how
        claims = jwt.decode(good, options={"verify_signature": False})
        head = {name: value for name, value in jwt.get_unverified_header(good).items() if name == "kid"}
        public = jwt.PyJWK(httpx.get(f"{issuer}/jwks").json()["keys"][0]).key
        # by hand, since PyJWT refuses to sign with a public key
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", **head}, claims)]
        signed = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        for encoding in (Encoding.DER, Encoding.PEM):
            shared = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
            signature = hmac.digest(shared, signed.encode(), "sha256")
            confused = f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
            assert refusal(client.get("/v1/jobs", headers=sent(confused))) == (401, "token_invalid"), encoding

    def test_neither_do_those_of_another_issuer_nor_expired_ones(
        self, client: httpx.Client, settings: Settings
    ) -> None:
        with run_server_in_thread(access_token_max_age=timedelta(minutes=-2)) as server:
            other = f"http://localhost:{server.server_port}"
            made = self.id_token(other, tenant="acme")
            assert refusal(client.get("/v1/jobs", headers=sent(made))) == (401, "token_invalid")
            theirs = settings.model_copy(update={"oidc_issuer": other})
            with serving(create_app(theirs), theirs) as trusting:
                assert refusal(trusting.get("/v1/jobs", headers=sent(made))) == (401, "token_expired")

    def test_a_tenant_has_a_name(self, client: httpx.Client, issuer: str) -> None:
        for tenant in ("", 7, ["acme"], "a\x00b", "a\nb", "a" * 300):
            made = self.id_token(issuer, tenant=tenant)
            assert refusal(client.get("/v1/jobs", headers=sent(made))) == (403, "tenant_missing"), tenant

    def test_its_tokens_are_taken_in_urls_too(self, client: httpx.Client, issuer: str, sessions: Sessions) -> None:
        job, made = make_job(sessions, tenant="acme"), self.id_token(issuer, tenant="acme")
        assert client.get(f"/v1/jobs/{job}/audio?token={made}").status_code == 307
        # what an issuer vouches for cannot be passed on
        answer = client.post("/v1/tokens", json={"scopes": ["jobs:read"]}, headers=sent(made))
        assert refusal(answer) == (403, "key_needed")

    def test_scopes_of_the_settings_are_checked_at_the_start(self, settings: Settings) -> None:
        with pytest.raises(ValueError, match="LONGHAND_OIDC_SCOPES"):
            create_app(settings.model_copy(update={"oidc_scopes": ["jobs:everything"]}))

    def test_an_issuer_that_is_away(self, settings: Settings, issuer: str) -> None:
        made = self.id_token(issuer, tenant="acme")
        claims = jwt.decode(made, options={"verify_signature": False})
        away = settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:9"})
        other = jwt.encode(claims | {"iss": "http://127.0.0.1:9"}, Ed25519PrivateKey.generate(), "EdDSA")
        with serving(create_app(away), away) as client:
            started = time.monotonic()
            for _ in range(20):
                answer = client.get("/v1/jobs", headers=sent(other))
                assert refusal(answer) == (503, "issuer_unavailable")
            assert time.monotonic() - started < 10
            assert client.get("/v1/jobs", headers=ROOT).status_code == 200


class Issuer:
    """An issuer whose keys change, which can be slow, and which counts how often it is asked for them."""

    def __init__(self) -> None:
        self.keys: dict[str, EllipticCurvePrivateKey] = {}
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()
        self.answer: bytes | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.describe(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_port}"
        self.add("first")

    def describe(self, path: str) -> bytes:
        if path.endswith("openid-configuration"):
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        self.asked += 1
        self.answering.wait(LIMIT_SECONDS)
        if self.answer is not None:
            return self.answer
        listed = [
            ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        # as issuers list them beside: for encryption, and of a kind that nobody knows
        beside = [listed[0] | {"kid": "enc", "use": "enc"}, {"kty": "new", "kid": "new"}]
        return json.dumps({"keys": [*listed, *beside]}).encode()

    def add(self, kid: str) -> None:
        self.keys[kid] = generate_private_key(SECP256R1())

    def token(self, kid: str, key: EllipticCurvePrivateKey | None = None) -> str:
        claims = {
            "iss": self.url,
            "aud": "longhand",
            "sub": "ada",
            "tenant": "acme",
            "exp": time.time() + 60,
        }
        return jwt.encode(claims, key or self.keys[kid], "ES256", headers={"kid": kid})


class TestIssuersKeys:
    @pytest.fixture
    def issuer(self) -> Iterator[Issuer]:
        made = Issuer()
        thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.answering.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()

    @pytest.fixture
    def trusted(self, issuer: Issuer) -> Oidc:
        return Oidc(Settings(oidc_issuer=issuer.url))

    async def code(self, trusted: Oidc, token: str) -> str:
        """Of the problem; the tenant if there is none."""
        try:
            return (await trusted.caller(token)).tenant
        except Problem as problem:
            return problem.code

    def test_many_tokens_ask_once_and_all_wait_for_the_answer(self, issuer: Issuer, trusted: Oidc) -> None:
        issuer.answering.clear()

        async def scenario() -> list[str]:
            first = asyncio.create_task(self.code(trusted, issuer.token("first")))
            await asyncio.to_thread(until, lambda: issuer.asked == 1)
            others = [asyncio.create_task(self.code(trusted, issuer.token("first"))) for _ in range(20)]
            # the loop serves others meanwhile
            await asyncio.sleep(0)
            assert not first.done()
            issuer.answering.set()
            return await asyncio.gather(first, *others)

        assert asyncio.run(scenario()) == ["acme"] * 21
        assert issuer.asked == 1

    def test_a_caller_that_goes_away_takes_no_answer_from_others(self, issuer: Issuer, trusted: Oidc) -> None:
        issuer.answering.clear()

        async def scenario() -> str:
            first = asyncio.create_task(self.code(trusted, issuer.token("first")))
            await asyncio.to_thread(until, lambda: issuer.asked == 1)
            second = asyncio.create_task(self.code(trusted, issuer.token("first")))
            await asyncio.sleep(0)
            first.cancel()
            issuer.answering.set()
            return await second

        assert asyncio.run(scenario()) == "acme"

    def test_a_new_key_is_found_and_a_flood_of_unknown_ones_asks_rarely(
        self, issuer: Issuer, trusted: Oidc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stranger = generate_private_key(SECP256R1())

        async def scenario() -> None:
            assert await self.code(trusted, issuer.token("first")) == "acme"
            issuer.add("second")
            for number in range(200):
                forged = issuer.token(f"forged{number}", stranger)
                assert await self.code(trusted, forged) == "token_invalid"
            assert issuer.asked == 1
            monkeypatch.setattr(oidc, "RETRY_SECONDS", 0.0)
            assert await self.code(trusted, issuer.token("second")) == "acme"
            for kid in ("enc", "new"):
                assert await self.code(trusted, issuer.token(kid, stranger)) == "token_invalid"

        asyncio.run(scenario())

    def test_a_withdrawn_key_ends_and_an_issuer_that_is_away_or_broken_does_not(
        self, issuer: Issuer, trusted: Oidc, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issuer.add("second")
        monkeypatch.setattr(oidc, "RETRY_SECONDS", -1.0)

        async def scenario() -> None:
            assert await self.code(trusted, issuer.token("first")) == "acme"
            # from here on the keys are too old
            monkeypatch.setattr(oidc, "REFRESH_SECONDS", -1.0)
            monkeypatch.setattr(oidc, "STALE_SECONDS", -1.0)
            for nonsense in (b"", b"{}", b"[]", b'{"keys": 7}', b'{"keys": [7, null, {}]}', b"[" * 100_000):
                issuer.answer = nonsense
                assert await self.code(trusted, issuer.token("first")) == "acme", nonsense
            issuer.answer = None
            old = issuer.token("first")
            del issuer.keys["first"]
            assert await self.code(trusted, old) == "token_invalid"
            assert await self.code(trusted, issuer.token("second")) == "acme"

        asyncio.run(scenario())
