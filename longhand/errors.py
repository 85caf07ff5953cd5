"""Everything that the client raises.

LonghandError
├── Unreachable            no answer: refused, timed out, broken off
├── WaitTimeout            it takes longer than one wanted to wait
├── JobFailed              a job, export or the like ended without a result
└── ApiError               the server answered with a problem
    ├── InvalidRequest     400, 413, 415, 422 and the like
    ├── Unauthorized       401
    ├── Forbidden          403
    ├── NotFound           404, 410
    ├── Conflict           409, 423
    ├── RateLimited        429
    └── ServerError        5xx
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import httpx


class LonghandError(Exception):
    """The message is one sentence, or two."""


class Unreachable(LonghandError):
    """The server did not answer, however often it was asked."""


class WaitTimeout(LonghandError):
    """What was waited for goes on; it can be waited for again."""


class JobFailed(LonghandError):
    """What was waited for failed or was cancelled. ``result`` is how it stands."""

    def __init__(self, result: Mapping[str, object], code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.result, self.code = result, code


class ApiError(LonghandError):
    """A problem document (RFC 9457)."""

    def __init__(self, status: int, code: str, title: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{title} ({code}): {detail}")
        self.status = status
        self.code = code
        """Stable; docs/api.md lists them."""
        self.title, self.detail = title, detail
        self.retry_after = retry_after
        """Seconds after which the server may be asked again, where it says so."""


class InvalidRequest(ApiError):
    """The request is at fault."""


class Unauthorized(ApiError):
    """No key, or one that is unknown, expired or revoked."""


class Forbidden(ApiError):
    """The key may not do this."""


class NotFound(ApiError):
    """There is no such thing, or it was removed."""


class Conflict(ApiError):
    """Not in the state that this is in."""


class RateLimited(ApiError):
    """A quota is used up, or the server is full: come back after ``retry_after``."""


class ServerError(ApiError):
    """The server, or what is behind it, fails."""


KINDS: Mapping[int, type[ApiError]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.GONE: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.LOCKED: Conflict,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
}


def error_of(answer: httpx.Response) -> ApiError:
    """The error that an answer of 300 or more stands for; its body has been read."""
    status = answer.status_code
    kind = KINDS.get(status, ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequest)
    wait = answer.headers.get("Retry-After", "")
    retry_after = float(wait) if wait.isdecimal() else None
    try:
        problem = answer.json()
        return kind(status, problem["code"], problem["title"], problem["detail"], retry_after)
    except (ValueError, KeyError, TypeError):
        # a proxy, say
        detail = f"{answer.request.url.host} answered without a problem document."
        return kind(status, "unknown", f"Status {status}", detail, retry_after)
