"""Tokens of an OpenID Connect issuer that the settings trust."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import httpx
import jwt

from api.access.caller import Caller
from api.access.tokens import expired_token, invalid_token
from api.problems import Problem
from db.models import Priority, Scope
from db.settings import Settings

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones alone: with a shared secret, whoever can check a token can forge one."""

LEEWAY_SECONDS = 30
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""Between two questions for the issuer's keys, however many tokens with unknown ones come."""
TIMEOUT_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
KNOWN_SCOPES = frozenset(Scope)


class Oidc:
    """One issuer: its keys are fetched when a token needs them, and kept."""

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_issuer is not None  # noqa: S101  (made only where it is set)
        self._settings = settings
        self.issuer = settings.oidc_issuer
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    def issued(self, token: str) -> bool:
        """Whether the token says that it comes from the issuer; nothing of it is verified."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return claims.get("iss") == self.issuer

    async def caller(self, token: str) -> Caller:
        """Raises Problem."""
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._key(kid)
            claims = jwt.decode(
                token,
                key,
                ALGORITHMS,
                issuer=self.issuer,
                audience=self._settings.oidc_audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise expired_token() from None
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise invalid_token() from None
        tenant = claims.get(self._settings.oidc_tenant_claim)
        if not isinstance(tenant, str) or not tenant:
            raise Problem(
                403,
                "tenant_missing",
                "Tenant missing",
                f"The token has no claim {self._settings.oidc_tenant_claim!r} that names a tenant; see "
                "LONGHAND_OIDC_TENANT_CLAIM.",
            )
        return Caller(tenant, self._scopes(claims), Priority.NORMAL, actor=f"oidc {claims['sub']}")

    def _scopes(self, claims: dict[str, Any]) -> frozenset[Scope]:
        """Those of ours that the claim names; where it names none, those of the settings."""
        given = claims.get(self._settings.oidc_scope_claim, ())
        names = given.split() if isinstance(given, str) else given if isinstance(given, list) else ()
        named = frozenset(Scope(name) for name in names if name in KNOWN_SCOPES)
        return named or frozenset(Scope(name) for name in self._settings.oidc_scopes)

    async def _key(self, kid: str) -> jwt.PyJWK:
        """The issuer's key of that id. Raises Problem."""
        now = time.monotonic()
        named = kid in self._keys or (not kid and bool(self._keys))
        wanted = not named or now - self._fetched > REFRESH_SECONDS
        if wanted and now - self._tried > RETRY_SECONDS:
            async with self._lock:
                if time.monotonic() - self._tried > RETRY_SECONDS:
                    await self._fetch()
        if kid in self._keys:
            return self._keys[kid]
        if not kid and len(self._keys) == 1:
            # an issuer with one key need not name it (OpenID Connect Core, section 10.1)
            return next(iter(self._keys.values()))
        if not self._keys:
            raise Problem(
                503,
                "issuer_unavailable",
                "Issuer unavailable",
                f"The keys of {self.issuer} cannot be had; try again shortly.",
                headers={"Retry-After": str(int(RETRY_SECONDS))},
            )
        raise invalid_token()

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client, asyncio.timeout(2 * TIMEOUT_SECONDS):
                described = await _json(client, f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                if described.get("issuer") != self.issuer:
                    raise ValueError(f"it calls itself {described.get('issuer')!r}")
                found = jwt.PyJWKSet.from_dict(await _json(client, str(described["jwks_uri"])))
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, jwt.PyJWTError) as error:
            logger.warning("keys of %s: %s", self.issuer, error)
            return
        keys = {key.key_id or "": key for key in found.keys if key.key_type != "oct"}
        if keys:
            self._keys, self._fetched = keys, time.monotonic()


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        body = bytearray()
        async for block in answer.aiter_bytes():
            body += block
            if len(body) > MAX_BYTES:
                raise ValueError(f"{url} answers with more than {MAX_BYTES} bytes")
    content = httpx.Response(200, content=bytes(body)).json()
    if not isinstance(content, dict):
        raise ValueError(f"{url} answers with something else than an object")
    return content
