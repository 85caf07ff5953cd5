"""Tokens: short-lived, for a part of what a key may do, checked by every process and by other services."""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import jwt
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oidc_provider_mock import run_server_in_thread
from oidc_provider_mock._client_lib import OidcClient
from sqlalchemy import select, update

from api.app import create_app
from db.models import SigningKey
from db.session import Sessions
from db.settings import ApiKey, Settings
from tests.api.conftest import serving
from tests.api.test_jobs import problem, upload
from tests.api.test_keys import ROOT, bearer, make
from tests.jobs import make_job
from tests.waiting import until

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
                    assert problem(answer)["code"] == "token_of_one_job"
    assert {url.split("/")[3] for url in opened} == {str(job)}
    assert client.get(f"/v1/jobs/{other}/events", headers=sent(made)).status_code == 403


def test_a_url_takes_a_token_for_streams_and_audio_alone(
    client: httpx.Client, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
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
            session.execute(update(SigningKey).values(created_at=SigningKey.created_at - text_interval(40)))
        third = stack.enter_context(serving(create_app(sealed), sealed))
        assert len(third.get("/.well-known/jwks.json").json()["keys"]) == 2
        assert third.get("/v1/jobs", headers=sent(made)).status_code == 200
        # the new key is announced, and not used before every process knows it
        assert jwt.get_unverified_header(token(third))["kid"] == jwt.get_unverified_header(made)["kid"]
        with sessions.begin() as session:
            session.execute(update(SigningKey).values(created_at=SigningKey.created_at - text_interval(1)))
        newer = lambda: jwt.get_unverified_header(token(first))["kid"] != jwt.get_unverified_header(made)["kid"]  # noqa: E731
        until(newer)
        for api in (first, second, third):
            assert api.get("/v1/jobs", headers=sent(token(first))).status_code == 200
            assert api.get("/v1/jobs", headers=sent(made)).status_code == 200


def text_interval(days: int) -> Any:
    from datetime import timedelta  # noqa: PLC0415

    return timedelta(days=days)


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
        pem = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        # by hand, since PyJWT refuses to sign with a public key
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", **head}, claims)]
        signed = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        signature = hmac.digest(pem, signed.encode(), "sha256")
        confused = f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
        assert refusal(client.get("/v1/jobs", headers=sent(confused))) == (401, "token_invalid")

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
