"""Tokens of an OpenID Connect issuer that the settings trust."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, TypeGuard

import httpx
import jwt
from pydantic import TypeAdapter, ValidationError

from api.access.caller import Caller
from api.access.tokens import expired_token, invalid_token
from api.problems import Problem
from api.text import Name
from db.models import Priority, Scope
from db.settings import Settings

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones alone: with a shared secret, whoever can check a token can forge one."""

LEEWAY_SECONDS = 30
REFRESH_SECONDS = 300.0
"""Age at which keys are asked for again, while they go on being used."""
STALE_SECONDS = 600.0
"""Age from which they are asked for first: the issuer may have withdrawn one."""
RETRY_SECONDS = 10.0
"""Between two questions for the issuer's keys, however many tokens with unknown ones come."""
TIMEOUT_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
KNOWN_SCOPES = frozenset(Scope)
TENANT: TypeAdapter[str] = TypeAdapter(Name)
MISTAKES = (
    *(httpx.HTTPError, httpx.InvalidURL, TimeoutError, jwt.PyJWTError),
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
)
"""What an issuer that is away, or answers with nonsense, leads to."""


class Oidc:
    """One issuer: its keys are fetched when a token needs them, and kept. For use on the event loop alone."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError if the settings name a scope that there is not."""
        assert settings.oidc_issuer is not None  # noqa: S101  (made only where it is set)
        self._settings = settings
        self.issuer = settings.oidc_issuer
        if unknown := sorted(set(settings.oidc_scopes) - KNOWN_SCOPES):
            raise ValueError(f"LONGHAND_OIDC_SCOPES names {unknown}; there are {', '.join(Scope)}.")
        self._default_scopes = frozenset(Scope(name) for name in settings.oidc_scopes)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

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
        except (jwt.PyJWTError, ValueError, TypeError):
            raise invalid_token() from None
        tenant = claims.get(self._settings.oidc_tenant_claim)
        if not _is_name(tenant):
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
        return named or self._default_scopes

    async def _key(self, kid: str) -> jwt.PyJWK:
        """The issuer's key of that id. Raises Problem."""
        found, age = self._find(kid), time.monotonic() - self._fetched
        if found is None or age > REFRESH_SECONDS:
            asked = self._ask()
            if asked is not None and (found is None or age > STALE_SECONDS):
                # whoever comes meanwhile waits for the same answer
                await asyncio.shield(asked)
                found = self._find(kid)
        if found is not None:
            return found
        if not self._keys:
            raise Problem(
                503,
                "issuer_unavailable",
                "Issuer unavailable",
                f"The keys of {self.issuer} cannot be had; try again shortly.",
                headers={"Retry-After": str(int(RETRY_SECONDS))},
            )
        raise invalid_token()

    def _find(self, kid: str) -> jwt.PyJWK | None:
        if not kid and len(self._keys) == 1:
            # an issuer with one key need not name it (OpenID Connect Core, section 10.1)
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _ask(self) -> asyncio.Task[None] | None:
        """The question that is under way, or a new one; None where the last is too recent."""
        if self._fetching is None or self._fetching.done():
            if time.monotonic() - self._tried <= RETRY_SECONDS:
                return None
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client, asyncio.timeout(2 * TIMEOUT_SECONDS):
                described = await _json(client, f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                if described.get("issuer") != self.issuer:
                    raise ValueError(f"it calls itself {described.get('issuer')!r}")
                found = jwt.PyJWKSet.from_dict(await _json(client, str(described["jwks_uri"])))
        except MISTAKES as error:
            logger.warning("keys of %s: %s: %s", self.issuer, type(error).__name__, error)
            return
        finally:
            self._tried = time.monotonic()
        keys = {
            str(key.key_id or ""): key
            for key in found.keys
            if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")
        }
        if keys:
            self._keys, self._fetched = keys, time.monotonic()


def _is_name(tenant: object) -> TypeGuard[str]:
    """Whether a tenant may be called so."""
    try:
        return isinstance(tenant, str) and TENANT.validate_python(tenant) == tenant
    except ValidationError:
        return False


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
