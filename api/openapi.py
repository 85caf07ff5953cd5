"""What /openapi.json says beside what FastAPI finds: names of operations, and schemas that no signature has.

Routes that read their body themselves, as a stream say, describe it with :func:`reference` and :func:`properties`.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from api.openai import errors as openai_errors
from api.openai.fields import Fields
from api.problems import PROBLEM_SCHEMA
from api.schemas import JobRequest, SpeakerEnrolment
from api.uploads.resumable.view import UploadRequest
from db.models import EventType

TEMPLATE = "#/components/schemas/{model}"

SCHEMAS: tuple[Any, ...] = (JobRequest, UploadRequest, SpeakerEnrolment, EventType)
"""Of bodies that routes read themselves, and of what streams tell."""


def operation_id(route: APIRoute) -> str:
    """The function's name, which is unique: clients that are generated call the operation so."""
    return route.name


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A mention of one of the schemas."""
    return {"$ref": TEMPLATE.format(model=model.__name__)}


def properties(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a form."""
    found: dict[str, Any] = model.model_json_schema(ref_template=TEMPLATE)["properties"]
    return found


def complete(app: FastAPI) -> None:
    """Have the application describe those schemas too."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"]["schemas"] |= _schemas()
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual says


def _schemas() -> dict[str, Any]:
    adapters: list[Any] = [(each, "validation", TypeAdapter(each)) for each in SCHEMAS]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=TEMPLATE)
    forms = Fields.model_json_schema(ref_template=TEMPLATE)["$defs"]
    return {**found["$defs"], **forms, "Problem": PROBLEM_SCHEMA, "OpenAIError": openai_errors.SCHEMA}


def text(app: FastAPI) -> str:
    """The document as clients keep it: always the same as long as the API is."""
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"
