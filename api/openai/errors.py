"""Problems in the shape of OpenAI's errors: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

MOST_RETRY_SECONDS = 60
"""The clients heed no longer ``Retry-After``, and would be back within seconds."""

SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
                "code": {"type": "string", "description": "Stable; see docs/api.md."},
            },
        }
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "An error in OpenAI's shape",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
    }
    for status in ("4XX", "5XX")
}
"""What every operation for OpenAI's clients may answer, for OpenAPI."""


def speaks_openai(path: str) -> bool:
    """Whether the clients of a path are OpenAI's."""
    return path == "/v1/models" or path.startswith(("/v1/models/", "/v1/audio/"))


def status_of(status: int) -> int:
    """What OpenAI answers where we do so with this status: it knows no 422."""
    return 400 if status == 422 else status


def body(status: int, code: str, message: str, more: Mapping[str, Any]) -> dict[str, Any]:
    fields = [error["field"] for error in more.get("errors", ())]
    return {
        "error": {
            "message": message,
            "type": TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": more.get("param") or next(iter(fields), None),
            "code": code,
        }
    }


def retry_headers(status: int, headers: Mapping[str, str], *, made_job: bool) -> dict[str, str]:
    """Keep the clients from sending a recording again where that is of no use: they do for 409, 429 and 5XX."""
    too_long = status == 429 and float(headers.get("Retry-After", 0)) > MOST_RETRY_SECONDS
    return {"x-should-retry": "false"} if made_job or too_long else {}
