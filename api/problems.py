"""Errors as the client sees them: RFC 9457 problem documents with a stable ``code``."""

from __future__ import annotations

import logging
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.openai import errors as openai_errors
from db.access.quotas import QuotaExceeded
from db.logs import describe
from db.models import Job

logger = logging.getLogger(__name__)


class Problem(Exception):
    """An error response. ``detail`` is one sentence that says what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.headers = headers or {}
        self.more = more

    def response(self) -> ProblemResponse:
        return ProblemResponse(self)

    def document(self) -> JSONResponse:
        body = {
            "type": f"urn:longhand:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.more,
        }
        return JSONResponse(
            body, status_code=self.status, headers=self.headers, media_type="application/problem+json"
        )

    def in_openai_shape(self) -> JSONResponse:
        status = openai_errors.status_of(self.status)
        headers = self.headers | openai_errors.retry_headers(status, self.headers, made_job="job_id" in self.more)
        return JSONResponse(self.openai_body(), status_code=status, headers=headers)

    def openai_body(self) -> dict[str, Any]:
        return openai_errors.body(self.status, self.code, self.detail, self.more)


class ProblemResponse(Response):
    """A problem in the shape that the clients of its path read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(status_code=problem.status)
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        openai = openai_errors.speaks_openai(scope["path"])
        response = self._problem.in_openai_shape() if openai else self._problem.document()
        await response(scope, receive, send)


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; see docs/api.md."},
        "detail": {"type": "string", "description": "One sentence that says what to do."},
        "errors": {
            "description": "The fields that are wrong, where the request is.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "A problem document (RFC 9457)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in ("4XX", "5XX")
}
"""What every operation may answer, for OpenAPI."""


def job_not_found(job_id: str) -> Problem:
    detail = f"There is no job {job_id!r}; it may have been deleted."
    return Problem(404, "job_not_found", "Job not found", detail)


def voice_not_found(voice_id: str) -> Problem:
    detail = f"There is no voice {voice_id!r}; it may have been deleted."
    return Problem(404, "voice_not_found", "Voice not found", detail)


def audio_erased(job: Job) -> Problem:
    detail = f"The recording of job {job.id} is removed since {job.audio_erased_at}; its transcript stays."
    return Problem(410, "audio_erased", "Audio erased", detail)


def too_many(things: str, count: int) -> Problem:
    """No room for one more."""
    detail = f"There are {count} {things}; delete some first."
    return Problem(409, f"too_many_{things}", f"Too many {things}", detail)


def over_quota(error: QuotaExceeded) -> Problem:
    headers = {"Retry-After": str(error.retry_after)}
    return Problem(429, error.code, "Quota exceeded", str(error), headers)


def storage_unavailable() -> Problem:
    return Problem(
        503,
        "unavailable",
        "Service unavailable",
        "A service behind the API is away; nothing was lost. Try again shortly.",
        headers={"Retry-After": "5"},
    )


DATABASE_AWAY = OperationalError, InterfaceError, InternalError, PoolTimeout

CODES = {404: "not_found", 405: "method_not_allowed"}


def install(app: FastAPI) -> None:
    """Answer every error with a problem document, never with a traceback."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(QuotaExceeded)
    async def _quota(request: Request, error: QuotaExceeded) -> Response:
        return over_quota(error).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "invalid_request")
        detail = f"{request.method} {request.url.path}: {error.detail}."
        return Problem(error.status_code, code, str(error.detail), detail, dict(error.headers or {})).response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return invalid("invalid_request", "Invalid request", error.errors()).response()

    async def _unavailable(request: Request, error: Exception) -> Response:
        # the text of an error of Postgres may quote what was looked for
        logger.error("%s %s: a service is away: %s", request.method, request.url.path, describe(error))
        return storage_unavailable().response()

    for unavailable in (*DATABASE_AWAY, BotoCoreError, ClientError):
        app.add_exception_handler(unavailable, _unavailable)

    @app.exception_handler(ClientDisconnect)
    async def _disconnected(request: Request, error: ClientDisconnect) -> Response:
        logger.info("%s %s: the client went away", request.method, request.url.path)
        return Response(status_code=499)  # seen by nobody

    @app.exception_handler(Exception)
    async def _internal_error(request: Request, error: Exception) -> Response:
        detail = "The server failed to answer; its log has the cause."
        return Problem(500, "internal_error", "Internal error", detail).response()


def invalid(code: str, title: str, errors: Any) -> Problem:
    """A 422 from Pydantic's list of errors."""
    fields = [
        {
            "field": ".".join(str(part) for part in error["loc"]),
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in errors
    ]
    detail = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return Problem(422, code, title, detail, errors=fields)
