"""``/v1/tokens``: short-lived tokens, and the keys to check them with."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access.signers import CACHED
from api.access.tokens import GRANTABLE, no_signing_key
from api.dependencies import CallerDep, ServicesDep, SessionDep, find_job, for_every_caller
from api.problems import Problem
from db.models import Scope

router = APIRouter(tags=["tokens"])

DEFAULT_SECONDS = 300


class TokenRequest(BaseModel):
    """A part of what your key may do, for a while."""

    model_config = ConfigDict(extra="forbid")

    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    job_id: uuid.UUID | None = Field(None, description="It opens this job alone.")
    seconds: int = Field(DEFAULT_SECONDS, ge=1, description="At most LONGHAND_TOKEN_SECONDS.")


class Token(BaseModel):
    token: str
    token_type: str = "Bearer"  # noqa: S105  (the type's name)
    expires_at: datetime
    scopes: list[Scope]
    job_id: uuid.UUID | None


@router.post("/v1/tokens", status_code=201, response_model=Token, dependencies=[for_every_caller()])
def create_token(wanted: TokenRequest, services: ServicesDep, session: SessionDep, caller: CallerDep) -> Token:
    """Make a token with your key. It ends with the key, if not before."""
    most = services.settings.token_seconds
    if wanted.seconds > most:
        raise Problem(
            422, "token_too_long", "Token too long", f"A token lives {most} s at most, not {wanted.seconds}."
        )
    if refused := sorted(scope for scope in wanted.scopes if scope not in GRANTABLE or not caller.may(scope)):
        detail = f"Your key cannot give a token {', '.join(refused)}; no token has `admin`."
        raise Problem(403, "scope_missing", "Scope missing", detail)
    if wanted.job_id is not None:
        find_job(session, caller.tenant, str(wanted.job_id))
    scopes = sorted(set(wanted.scopes))
    token, expires = services.authenticator.issue(caller, scopes, wanted.job_id, wanted.seconds)
    return Token(token=token, expires_at=datetime.fromtimestamp(expires, UTC), scopes=scopes, job_id=wanted.job_id)


@router.get("/.well-known/jwks.json")
def show_jwks(services: ServicesDep, response: Response) -> dict[str, list[dict[str, Any]]]:
    """The public keys of tokens (RFC 7517), by which other services can check them."""
    found = services.directory.signers.jwks()
    if not found["keys"]:
        # a proxy would keep the empty list
        raise no_signing_key()
    response.headers["Cache-Control"] = f"public, max-age={CACHED.seconds}"
    return found
