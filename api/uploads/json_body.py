"""Bodies of JSON, of requests that may have others."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.problems import invalid

Schema = TypeVar("Schema", bound=BaseModel)


def is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("application/json")


async def read_json(request: Request, schema: type[Schema]) -> Schema:
    """Raises Problem."""
    try:
        return schema.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid("invalid_request", "Invalid request", error.errors()) from error
