"""Short-lived tokens: JWTs that stand for a key, or for a part of what it may do."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt

from api.access.caller import Caller
from api.access.signers import Signers
from api.problems import Problem
from db.models import Priority, Scope

ISSUER = "longhand"
ALGORITHM = "EdDSA"
LEEWAY_SECONDS = 2
GRANTABLE = frozenset(Scope) - {Scope.ADMIN}
"""No token manages keys: what it makes would outlive it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says."""

    tenant: str
    scopes: frozenset[Scope]
    max_priority: Priority
    key: str
    """The key that it was made with: an id, or the mark of one of the environment."""
    job_id: uuid.UUID | None


def is_token(credential: str) -> bool:
    """Whether it has the form of a JWT, as none of our keys has."""
    return credential.count(".") == 2


def issue(
    signers: Signers, caller: Caller, key: str, scopes: Collection[Scope], job_id: uuid.UUID | None, seconds: int
) -> tuple[str, int]:
    """(token, when it expires in Unix seconds). Raises Problem while there is no key to sign with."""
    signer = signers.current()
    if signer is None:
        raise no_signing_key()
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": caller.tenant,
        "scope": " ".join(sorted(scopes)),
        "priority": caller.max_priority.value,
        "key": key,
        "iat": now,
        "exp": now + seconds,
        "jti": secrets.token_urlsafe(12),
    }
    if job_id is not None:
        claims["job"] = str(job_id)
    return jwt.encode(claims, signer.private, ALGORITHM, headers={"kid": signer.kid}), now + seconds


def verify(signers: Signers, token: str) -> Claims:
    """Raises Problem: ``token_expired`` or ``token_invalid``."""
    try:
        public = signers.public(str(jwt.get_unverified_header(token).get("kid")))
        if public is None:
            raise invalid_token()
        claims = jwt.decode(
            token,
            public,
            [ALGORITHM],
            issuer=ISSUER,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "sub", "scope", "key", "priority"]},
        )
        return Claims(
            tenant=claims["sub"],
            scopes=frozenset(Scope(name) for name in claims["scope"].split() if name in GRANTABLE),
            max_priority=Priority(claims["priority"]),
            key=claims["key"],
            job_id=uuid.UUID(claims["job"]) if "job" in claims else None,
        )
    except jwt.ExpiredSignatureError:
        raise expired_token() from None
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
        raise invalid_token() from None


def no_signing_key() -> Problem:
    detail = "There is no key that tokens are signed with; try again shortly, or see the server's log."
    return Problem(503, "unavailable", "Service unavailable", detail, headers={"Retry-After": "5"})


def expired_token() -> Problem:
    return _refused("token_expired", "Token expired", "Get a new token at /v1/tokens with your key.")


def invalid_token() -> Problem:
    return _refused("token_invalid", "Token invalid", "Send a token of /v1/tokens, or an API key.")


def _refused(code: str, title: str, detail: str) -> Problem:
    return Problem(401, code, title, detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
